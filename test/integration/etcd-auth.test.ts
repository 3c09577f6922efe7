/** etcd with users: a token that its server no longer knows, and one that was never right. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { EtcdStore } from '../../datastore/etcd/store.ts'
import { systemClock } from '../../lib/clock.ts'
import { isTwillError } from '../../lib/errors.ts'
import { silentLog } from '../../lib/log.ts'
import { systemRandom } from '../../lib/random.ts'
import { startEtcd, type TestEtcd } from '../fixtures/etcd.ts'
import { etcdctl } from '../fixtures/etcdctl.ts'
import { recordWatch } from '../fixtures/watch-record.ts'

const test = suite<{ etcd: TestEtcd; store: EtcdStore }>('etcd auth')

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
  context.etcd = await startEtcd({ safe: true })
  await etcdctl(context.etcd, 'user', 'add', 'root:secret')
  await etcdctl(context.etcd, 'user', 'grant-role', 'root', 'root')
  await etcdctl(context.etcd, 'auth', 'enable')
})
test.after.each(async context => {
  await context.store.close()
  await context.etcd.remove()
})

test('calls and watches outlive a token that the server forgot', async context => {
  const { etcd } = context
  const store = open(etcd.endpoint, 'secret')
  context.store = store
  const created = await store.commit({ key: 'k', expected: 0, value: '1' })
  const record = recordWatch(store, '')
  await record.until('snapshot', seen => seen.snapshots === 1)
  // Simple tokens live in the server's memory.
  await etcd.kill()
  await etcd.start()
  let expected = created.revision
  for (let done = false; !done; ) {
    const outcome = await store.commit({ key: 'k', expected, value: '2' }).catch(() => null)
    done = outcome?.committed === true
    if (outcome === null) expected = (await store.get('k').catch(() => null))?.entry?.modRevision ?? expected
  }
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
