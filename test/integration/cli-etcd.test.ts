/** twillctl as a process against a real etcd: exit codes, pipes, two writers at once, an etcd that is away. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { buildSync } from 'esbuild'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { EtcdStore } from '../../datastore/etcd/store.ts'
import { systemClock } from '../../lib/clock.ts'
import { silentLog } from '../../lib/log.ts'
import { systemRandom } from '../../lib/random.ts'
import { liveness, nodeRecord, part, slot } from '../fixtures/cluster-records.ts'
import { startEtcd, type TestEtcd } from '../fixtures/etcd.ts'

interface Ran {
  readonly code: number | null
  readonly out: string
  readonly err: string
}

const ROOT = join(import.meta.dirname, '../..')
const folder = mkdtempSync(join(tmpdir(), `twg-cli-${process.pid}-`))
/** Inside node_modules, where packages are found; bundled, since compiling at each start takes a second. */
const script = join(ROOT, `node_modules/.cache/twg-cli-${process.pid}.mjs`)
process.on('exit', () => {
  rmSync(folder, { recursive: true, force: true })
  rmSync(script, { force: true })
})

const test = suite<{ etcd: TestEtcd; store: EtcdStore }>('twillctl and etcd')

/** @param env all of the environment but PATH and where etcd is */
async function twillctl(
  { etcd }: { etcd: TestEtcd },
  argv: readonly string[],
  input = '',
  env: Record<string, string> = {},
): Promise<Ran> {
  const child = spawn(process.execPath, [script, ...argv], {
    env: { PATH: process.env.PATH ?? '', TWILL_DATASTORE_ENDPOINTS: etcd.endpoint, ...env },
  })
  let [out, err] = ['', '']
  child.stdout.on('data', chunk => {
    out += chunk
  })
  child.stderr.on('data', chunk => {
    err += chunk
  })
  child.stdin.end(input)
  const [code] = await once(child, 'close')
  return { code, out, err }
}

const pool = (name: string, cidr: string) =>
  `apiVersion: twill.network/v1alpha1\nkind: IPPool\nmetadata: {name: ${name}}\nspec: {cidr: "${cidr}"}\n`

async function put(store: EtcdStore, key: string, value: unknown): Promise<void> {
  const { entry } = await store.get(key)
  await store.commit({ key, expected: entry?.modRevision ?? 0, value: JSON.stringify(value) })
}

test.before(async context => {
  buildSync({
    entryPoints: [join(ROOT, 'cli/main.ts')],
    outfile: script,
    bundle: true,
    platform: 'node',
    format: 'esm',
    packages: 'external',
  })
  context.etcd = await startEtcd()
  context.store = new EtcdStore(
    { endpoints: [context.etcd.endpoint] },
    { clock: systemClock, random: systemRandom, log: silentLog },
  )
})
test.after(async ({ etcd, store }) => {
  await store.close()
  await etcd.remove()
})

test('apply from standard input, get, apply what get printed, delete', async context => {
  const documents = `${pool('default', '10.244.0.0/16')}---\n${pool('v6', 'fd00:10:244::/64')}`
  assert.equal(await twillctl(context, ['apply', '-f', '-'], documents), {
    code: 0,
    out: 'IPPool default created\nIPPool v6 created\n',
    err: '',
  })
  const { out } = await twillctl(context, ['get', 'ippools', '-o', 'yaml'])
  const again = await twillctl(context, ['apply', '-f', '-'], out)
  assert.equal([again.code, again.out], [0, 'IPPool default unchanged\nIPPool v6 unchanged\n'])
  const table = await twillctl(context, ['get', 'ippools'])
  assert.match(table.out, /^default +10\.244\.0\.0\/16 +Always +0\/65536 \(0%\) +0 +0 +Open$/m)
  const deleted = await twillctl(context, ['delete', 'ippool', 'default', 'v6'])
  assert.equal([deleted.code, deleted.out], [0, 'IPPool default deleted\nIPPool v6 deleted\n'])
})

test('overlapping pools written at the same instant: exactly one gets in', async context => {
  const [a, b] = await Promise.all([
    twillctl(context, ['apply', '-f', '-'], pool('a', '10.50.0.0/16')),
    twillctl(context, ['apply', '-f', '-'], pool('b', '10.50.128.0/20')),
  ])
  assert.equal([a.code, b.code].sort(), [0, 1], `${a.err}${b.err}`)
  const loser = a.code === 1 ? a : b
  assert.match(loser.err, /^error: standard input: document 1, line 1: IPPool [ab] .*10\.50\..* IPPool [ab] /)
  assert.is((await context.store.list('resources/ippools/')).entries.length, 1)
})

test('the same pool written at the same instant by two: one resource, both content', async context => {
  const documents = pool('same', '10.60.0.0/16')
  const ran = await Promise.all([1, 2].map(() => twillctl(context, ['apply', '-f', '-'], documents)))
  assert.equal(
    ran.map(({ code }) => code),
    [0, 0],
    ran.map(({ err }) => err).join(''),
  )
  assert.ok(ran.some(({ out }) => out === 'IPPool same created\n'))
})

test('a node is removed only once its heartbeat stands still', async context => {
  const { store } = context
  await put(store, 'nodes/node2', nodeRecord('node2', 2))
  await put(store, 'liveness/uid-node2', liveness('node2', { heartbeatMs: 200 }))
  await put(store, 'slots/p/10.244.0.64-26', slot([part('10.244.0.64/26', 'uid-node2', 5)]))
  let heartbeat = 100
  let beating = true
  const beats = (async () => {
    while (beating) {
      await put(store, 'liveness/uid-node2', liveness('node2', { heartbeatMs: 200, heartbeat: heartbeat++ }))
      await systemClock.sleep(50)
    }
  })()
  const alive = await twillctl(context, ['delete', 'node', 'node2'])
  beating = false
  await beats
  assert.is(alive.code, 1)
  assert.match(alive.err, 'error: Node node2: alive')
  const silent = await twillctl(context, ['delete', 'node', 'node2'])
  assert.equal([silent.code, silent.out.split(':')[0]], [0, 'Node node2 deleted'], silent.err)
  assert.is((await store.get('nodes/node2')).entry, null)
  const { entry } = await store.get('slots/p/10.244.0.64-26')
  assert.not.equal(JSON.parse(entry?.value ?? '').parts[0].fence, null)
})

test('on a node: the daemon’s configuration file says where the datastore is', async context => {
  const config = join(folder, 'twilld.yaml')
  writeFileSync(config, `datastore: {endpoints: ["${context.etcd.endpoint}"]}\nrunDir: ${folder}\n`)
  const env = { TWILL_DATASTORE_ENDPOINTS: '', TWILL_CONFIG: config }
  assert.is((await twillctl(context, ['get', 'nodes'], '', env)).code, 0)
  const status = await twillctl(context, ['status'], '', env)
  assert.is(status.code, 1)
  assert.match(status.out, `daemon at ${folder}/api.sock: no such socket`)
  assert.match(status.out, `Datastore  ${context.etcd.endpoint} answers`)
})

test('status asks the daemon’s socket; with etcd away it shows the daemon and says what is missing', async context => {
  const socket = join(folder, 'twg-api.sock')
  const daemon = createServer((_, response) => response.writeHead(503).end())
  await new Promise<void>(resolve => daemon.listen(socket, resolve))
  const { code, out } = await twillctl(context, [
    'status',
    '--socket',
    socket,
    '--etcd-endpoints',
    'http://127.0.0.1:1',
  ])
  daemon.closeAllConnections()
  daemon.close()
  assert.is(code, 1)
  assert.match(out, `daemon at ${socket}: answered 503`)
  assert.match(out, /^Datastore +away: .*127\.0\.0\.1:1/m)
})

test('etcd is away: one line on stderr, exit code 1, no trace of a stack', async context => {
  const { code, out, err } = await twillctl(context, [
    'get',
    'nodes',
    '--etcd-endpoints',
    'http://127.0.0.1:1',
  ])
  assert.equal([code, out], [1, ''])
  assert.match(err, /^error: .*127\.0\.0\.1:1.*\n$/)
})

test('exit codes: 2 for what was typed wrongly, 0 for help', async context => {
  assert.is((await twillctl(context, ['frob'])).code, 2)
  const help = await twillctl(context, ['--help'])
  assert.equal([help.code, help.err], [0, ''])
})

test.run()
