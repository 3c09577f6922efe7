/** etcd behind TLS with client certificates, as settings name it: what works, and what each mistake is called. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { run } from '../../cli/run.ts'
import type { EtcdStore } from '../../datastore/etcd/store.ts'
import { openEtcd } from '../../datastore/open.ts'
import { type EtcdSettings, etcdDatastore } from '../../datastore/settings.ts'
import { systemClock } from '../../lib/clock.ts'
import { isTwillError } from '../../lib/errors.ts'
import { silentLog } from '../../lib/log.ts'
import { systemRandom } from '../../lib/random.ts'
import { authority } from '../fixtures/certificates.ts'
import { startProxy } from '../fixtures/cutting-proxy.ts'
import { freePorts, startEtcd, type TestEtcd } from '../fixtures/etcd.ts'
import { etcdctl } from '../fixtures/etcdctl.ts'
import { recordWatch } from '../fixtures/watch-record.ts'

const folder = mkdtempSync(join(tmpdir(), `twc-tls-${process.pid}-`))
const ours = authority(folder, 'ours')
const theirs = authority(folder, 'theirs')
const root = ours.sign('root')
const twill = ours.sign('twill')
const good = { ca: ours.cert, cert: twill.cert, key: twill.key }

const modules = {
  clock: systemClock,
  random: systemRandom,
  log: silentLog,
  readFile: (path: string) => readFile(path),
}
const test = suite<{ opened: EtcdStore[] }>('etcd with TLS')
let etcd: TestEtcd
let operator: string[]

test.before(async () => {
  etcd = await startEtcd({ tls: { ca: ours.cert, ...ours.sign('server') } })
  operator = ['--cacert', ours.cert, '--cert', root.cert, '--key', root.key]
})
test.after(async () => {
  await etcd.remove()
  rmSync(folder, { recursive: true })
})
test.before.each(context => {
  context.opened = []
})
test.after.each(async context => {
  for (const store of context.opened) await store.close()
})

async function open(context: { opened: EtcdStore[] }, settings: Partial<EtcdSettings>): Promise<EtcdStore> {
  const all = etcdDatastore.parse({ endpoints: [etcd.endpoint], tls: good, ...settings })
  const store = await openEtcd(all, modules)
  context.opened.push(store)
  return store
}

async function refusal(store: EtcdStore): Promise<string> {
  const error = await store.commit({ key: 'refused', expected: 0, value: '1' }).catch(reason => reason)
  assert.ok(isTwillError(error, 'store.unavailable'), String(error))
  assert.is(store.status().reason, error.message)
  return error.message
}

const mistakes: [what: string, settings: () => Partial<EtcdSettings>, message: RegExp][] = [
  [
    'an authority that did not sign the server',
    () => ({ tls: { ...good, ca: theirs.cert } }),
    /its certificate is not signed by an authority of tls.ca/,
  ],
  [
    'no certificate of ours',
    () => ({ tls: { ca: ours.cert } }),
    /refuses.*expected one in tls.cert and tls.key/,
  ],
  [
    'a certificate of ours that has expired',
    () => ({ tls: { ca: ours.cert, ...ours.sign('twill', { days: -1 }) } }),
    /refuses our certificate.*tls.cert expired on /,
  ],
  [
    'a certificate of ours by another authority',
    () => ({ tls: { ca: ours.cert, ...theirs.sign('twill') } }),
    /refuses our certificate.*is that of tls.cert signed by an authority that it trusts/,
  ],
  [
    'a name that is not in the certificate',
    () => ({ endpoints: [etcd.endpoint.replace('127.0.0.1', 'localhost')] }),
    /its certificate is for another host: .*localhost/,
  ],
  [
    'http where it speaks https',
    () => ({ endpoints: [etcd.endpoint.replace('https', 'http')], tls: undefined }),
    /is it http or https there/,
  ],
]

for (const [what, settings, message] of mistakes)
  test(`${what}: nothing is written, and the message says so`, async context => {
    const store = await open(context, settings())
    assert.match(await refusal(store), message)
    const record = recordWatch(store, '')
    await record.until('word of it', seen => seen.messages.length === 1)
    const [said] = record.messages
    assert.ok(said?.type === 'connection' && !said.connected && message.test(said.reason ?? ''), said?.type)
    assert.is((await (await open(context, {})).get('refused')).entry, null)
  })

test('a server whose certificate has expired', async context => {
  const expired = await startEtcd({ tls: { ca: ours.cert, ...ours.sign('server', { days: -1 }) } })
  try {
    const store = await open(context, { endpoints: [expired.endpoint] })
    assert.match(await refusal(store), /its certificate has expired/)
  } finally {
    await expired.remove()
  }
})

test('several endpoints: a dead one and one with a wrong certificate are passed by, one that dies is left', async context => {
  const stranger = await startEtcd({ tls: { ca: ours.cert, ...theirs.sign('server') } })
  const proxy = await startProxy(etcd)
  try {
    const [port] = await freePorts(1)
    const dead = `https://127.0.0.1:${port}`
    const through = proxy.endpoint.replace('http:', 'https:')
    const store = await open(context, { endpoints: [dead, stranger.endpoint, through, etcd.endpoint] })
    assert.ok((await store.commit({ key: 'several', expected: 0, value: '1' })).committed)
    assert.ok(proxy.connections > 0)
    const record = recordWatch(store, 'several')
    await record.until('snapshot', seen => seen.snapshots === 1)
    proxy.refuse(true)
    proxy.cut()
    let written = false
    while (!written) {
      const { entry } = await store.get('several').catch(() => ({ entry: null }))
      const change = { key: 'several', expected: entry?.modRevision ?? -1, value: '2' }
      written = entry !== null && (await store.commit(change)).committed
    }
    await record.until('the event', seen => seen.state.get('several') === '2')
    assert.is(record.snapshots, 1)
    assert.is((await (await open(context, {})).get('several')).entry?.value, '2')
  } finally {
    await proxy.close()
    await stranger.remove()
  }
})

test('twillctl takes all of it from the file of the daemon, and names a mistake in it', async () => {
  const config = join(folder, 'twilld.yaml')
  const write = (tls: object) =>
    writeFileSync(config, JSON.stringify({ datastore: { endpoints: [etcd.endpoint], tls } }))
  const said: string[] = []
  const get = async () => {
    said.length = 0
    const output = { write: (text: string) => said.push(text) }
    return await run(['get', 'nodes', '--config', config], {
      ...modules,
      openStore: settings => openEtcd(settings, modules),
      openKubernetes: () => assert.unreachable() as never,
      openEmbedded: () => assert.unreachable() as never,
      readStatus: () => assert.unreachable() as never,
      readAudit: () => assert.unreachable() as never,
      repairNode: () => assert.unreachable() as never,
      readFile: path => readFile(path, 'utf8'),
      stdout: output,
      stderr: output,
      env: {},
    })
  }
  write(good)
  assert.equal([await get(), said.join('')], [0, 'no nodes\n'])
  write({ ...good, ca: theirs.cert })
  assert.is(await get(), 1)
  assert.match(said.join(''), /^error: etcd at https:.*not signed by an authority of tls.ca\n$/)
  write({ ...good, key: root.key })
  assert.is(await get(), 1)
  assert.match(said.join(''), /^error: datastore.tls.key: .*not of another certificate\n$/)
})

test('users: by certificate or password; without rights or with a wrong password it is refused for good', async context => {
  const ctl = (...words: string[]) => etcdctl(etcd, ...operator, ...words)
  const passwordFile = join(folder, 'password')
  writeFileSync(passwordFile, 'secret\n')
  await ctl('role', 'add', 'twill')
  await ctl('role', 'grant-permission', 'twill', '--prefix=true', 'readwrite', '/twill/v1/')
  await ctl('user', 'add', 'root', '--no-password')
  await ctl('user', 'add', 'twill', '--no-password')
  await ctl('user', 'add', 'other:secret')
  await ctl('user', 'grant-role', 'root', 'root')
  for (const user of ['twill', 'other']) await ctl('user', 'grant-role', user, 'twill')
  await ctl('auth', 'enable')
  try {
    const byName = await open(context, {})
    assert.ok((await byName.commit({ key: 'users', expected: 0, value: '1' })).committed)
    const nobody = { ca: ours.cert, ...ours.sign('nobody') }
    const byPassword = await open(context, { tls: nobody, username: 'other', passwordFile })
    assert.is((await byPassword.get('users')).entry?.value, '1')
    const elsewhere = await open(context, { prefix: '/elsewhere/' })
    assert.match(await refusal(elsewhere), /permission denied/)
    const withoutUser = await open(context, { tls: nobody })
    assert.match(await refusal(withoutUser), /permission denied|user name is empty/)
    writeFileSync(passwordFile, 'wrong')
    const wrong = await open(context, { tls: nobody, username: 'other', passwordFile })
    assert.match(await refusal(wrong), /authentication failed/)
  } finally {
    await ctl('auth', 'disable')
  }
})

test.run()
