/** etcd with users: a token that has expired, and a password that was never right. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { EtcdStore } from '../../datastore/etcd/store.ts'
import { systemClock } from '../../lib/clock.ts'
import { isTwillError } from '../../lib/errors.ts'
import { silentLog } from '../../lib/log.ts'
import { systemRandom } from '../../lib/random.ts'
import { type CuttingProxy, startProxy } from '../fixtures/cutting-proxy.ts'
import { startEtcd, type TestEtcd } from '../fixtures/etcd.ts'
import { etcdctl } from '../fixtures/etcdctl.ts'
import { recordWatch } from '../fixtures/watch-record.ts'

const test = suite<{ etcd: TestEtcd; proxy: CuttingProxy; store: EtcdStore }>('etcd auth')

function open(endpoint: string, password: string): EtcdStore {
  return new EtcdStore(
    {
      endpoints: [endpoint],
      auth: { username: 'root', password },
      backoffMs: { first: 5, last: 50 },
      callTimeoutMs: 2000,
    },
    { clock: systemClock, random: systemRandom, log: silentLog },
  )
}

test.before.each(async context => {
  context.etcd = await startEtcd({ args: ['--auth-token-ttl', '1'] })
  context.proxy = await startProxy(context.etcd)
  await etcdctl(context.etcd, 'user', 'add', 'root:secret')
  await etcdctl(context.etcd, 'user', 'grant-role', 'root', 'root')
  await etcdctl(context.etcd, 'auth', 'enable')
})
test.after.each(async context => {
  await context.store.close()
  await context.proxy.close()
  await context.etcd.remove()
})

test('calls and watches outlive their token', async context => {
  const store = open(context.proxy.endpoint, 'secret')
  context.store = store
  const created = await store.commit({ key: 'k', expected: 0, value: '1' })
  const record = recordWatch(store, '')
  await record.until('snapshot', seen => seen.snapshots === 1)
  // The server forgets a token that was not used for a second.
  await systemClock.sleep(3500)
  context.proxy.cut()
  await record.until('loss', seen => seen.messages.at(-1)?.type === 'connection')
  await record.until('connection', seen => {
    const last = seen.messages.at(-1)
    return last?.type === 'connection' && last.connected
  })
  const outcome = await store.commit({ key: 'k', expected: created.revision, value: '2' })
  assert.ok(outcome.committed)
  await record.until('event', seen => seen.state.get('k') === '2')
  assert.is(record.snapshots, 1)
})

test('a wrong password: unavailable, and says why', async context => {
  const store = open(context.etcd.endpoint, 'wrong')
  context.store = store
  const error = await store.commit({ key: 'k', expected: 0, value: '1' }).catch(reason => reason)
  assert.ok(isTwillError(error, 'store.unavailable') && !error.retryable, String(error))
  assert.match(store.status().reason ?? '', /authentication failed/)
})

test.run()
