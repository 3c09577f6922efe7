/** The embedded store over the API socket: a daemon that is away, goes, comes back, or has another datastore. */
import * as files from 'node:fs/promises'
import { createServer, type Server } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { ApiServer } from '../../../../daemon/api/server.ts'
import type { Status } from '../../../../daemon/api/types.ts'
import { EmbeddedDatabase } from '../../../../datastore/embedded/database.ts'
import { StoreService } from '../../../../datastore/embedded/service.ts'
import { SocketStore } from '../../../../datastore/embedded/socket-store.ts'
import { systemClock } from '../../../../lib/clock.ts'
import { isTwillError, TwillError } from '../../../../lib/errors.ts'
import { silentLog } from '../../../../lib/log.ts'
import { recordWatch } from '../../../fixtures/watch-record.ts'

interface Context {
  folder: string
  socketPath: string
  store: SocketStore
}

const test = suite<Context>('embedded store over its socket')

test.before.each(async context => {
  context.folder = await files.mkdtemp(join(tmpdir(), 'twill-socket-'))
  context.socketPath = join(context.folder, 'api.sock')
  context.store = new SocketStore(
    { socketPath: context.socketPath, hint: 'or name an etcd', timeoutMs: 2_000 },
    { clock: systemClock, log: silentLog },
  )
})
test.after.each(async context => {
  await context.store.close()
  await files.rm(context.folder, { recursive: true })
})

async function daemon({ folder, socketPath }: Context, own = true) {
  const database = await EmbeddedDatabase.open({ path: join(folder, 'datastore') }, { files, log: silentLog })
  const server = new ApiServer(
    { socketPath, metricsAddress: null },
    {
      status: () => ({}) as Status,
      metrics: async () => '',
      store: own ? new StoreService({ database, clock: systemClock }) : null,
    },
  )
  await server.listen()
  return { database, stop: () => server.close().then(() => database.close()) }
}

async function refusalOf(promise: Promise<unknown>): Promise<TwillError> {
  const error = await promise.then(
    () => null,
    reason => reason,
  )
  assert.ok(isTwillError(error), String(error))
  return error
}

const commit = { key: 'k', expected: 0, value: '1' }

test('no daemon: nothing was changed, the message names the socket and what else could be meant', async context => {
  const { store } = context
  for (const call of [() => store.get('k'), () => store.list(''), () => store.commit(commit)]) {
    const error = await refusalOf(call())
    assert.is(error.code, 'store.unavailable')
    assert.match(error.message, /api.sock: no such socket: is twilld running\?; or name an etcd/)
  }
  assert.is(store.status().connected, false)
})

test('a daemon whose datastore is etcd: said, and not tried again', async context => {
  const running = await daemon(context, false)
  const error = await refusalOf(context.store.commit(commit))
  assert.equal([error.code, error.retryable], ['store.unavailable', false])
  assert.match(error.message, /its datastore is elsewhere, and twillctl was not told where; or name an etcd/)
  assert.is(error.data.elsewhere, true)
  await running.stop()
})

test('an answer that does not come: a commit is in doubt, a read is not', async ({ socketPath, store }) => {
  const server: Server = createServer(request => request.resume().on('end', () => request.socket.destroy()))
  await new Promise<void>(resolve => server.listen(socketPath, resolve))
  assert.is((await refusalOf(store.commit(commit))).code, 'store.in-doubt')
  assert.is((await refusalOf(store.get('k'))).code, 'store.unavailable')
  server.closeAllConnections()
  await new Promise(resolve => server.close(resolve))
})

test('a daemon that goes and comes back: the watch says so, and has the exact state', async context => {
  const first = await daemon(context)
  await context.store.commit(commit)
  const record = recordWatch(context.store, '')
  await record.until('snapshot', seen => seen.state.get('k') === '1')
  await first.stop()
  await record.until('loss', seen => {
    const last = seen.messages.at(-1)
    return last?.type === 'connection' && !last.connected
  })
  const second = await daemon(context)
  await second.database.commit({ key: 'k', expected: 2, value: '2' }, null)
  await record.until('the new value', seen => seen.state.get('k') === '2')
  await record.close()
  await second.stop()
})

test('a request that is not one is refused by name, and the store goes on', async context => {
  const running = await daemon(context)
  const error = await refusalOf(context.store.commit({ ...commit, expected: -1 }))
  assert.equal([error.code, error.retryable], ['store.unavailable', false])
  assert.match(error.message, /answered 400/)
  assert.ok((await context.store.commit(commit)).committed)
  await running.stop()
})

test('a failure that the protocol has no word for: a commit is in doubt, a read is not', async context => {
  const fails = () => {
    throw new TwillError('internal', 'a bug')
  }
  const database = {
    state: { revision: 1, foreignTo: () => null, get: fails },
    commit: async () => fails(),
  } as unknown as EmbeddedDatabase
  const store = new StoreService({ database, clock: systemClock })
  const modules = { status: () => ({}) as Status, metrics: async () => '', store }
  const server = new ApiServer({ socketPath: context.socketPath, metricsAddress: null }, modules)
  await server.listen()
  const [read, written] = [
    await refusalOf(context.store.get('k')),
    await refusalOf(context.store.commit(commit)),
  ]
  await server.close()
  assert.equal([read.code, read.message], ['store.unavailable', 'a bug'])
  assert.equal([written.code, written.message, written.retryable], ['store.in-doubt', 'a bug', true])
})

test.run()
