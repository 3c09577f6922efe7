/** A node without etcd: the daemon has the datastore, twillctl reaches it through the daemon, and it outlives both. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { Cluster } from '../../hack/rig/cluster.ts'
import { ROOT } from '../../hack/rig/layout.ts'
import { until } from '../../hack/rig/processes.ts'

const rig = new Cluster(`twm-${process.pid}`)
const test = suite('embedded datastore')
const FILE = '/var/lib/twill/datastore'

test.before(() => rig.up({ store: 'embedded' }))
test.after(async () => {
  await rig.down()
})

const twillctl = (...words: string[]) => rig.exec('node1', [`${ROOT}/dist/bin/twillctl`, ...words])
const pods = async () => JSON.parse((await rig.api('node1', '/v1/status')).body).pods as { id: string }[]

async function held(): Promise<string> {
  const { stdout, stderr } = await twillctl('get', 'ippools', '-o', 'json')
  assert.is(stderr, '')
  const pools = JSON.parse(stdout) as { metadata: { name: string }; status: { held: number } }[]
  return String(pools.find(({ metadata }) => metadata.name === 'pods-v4')?.status.held)
}

test('a node by itself is ready; twillctl reads and writes through the daemon', async () => {
  assert.is((await rig.exec('underlay', ['pgrep', '-x', 'etcd'])).stdout, '')
  assert.ok(existsSync(rig.node('node1').path(FILE)))
  const pod = await rig.addPod('node1', 'web')
  assert.is(pod.addresses.length, 2)
  assert.match((await twillctl('get', 'nodes')).stdout, /node1\s+Registered/)
  const manifest = `apiVersion: twill.network/v1alpha1\nkind: IPPool\nmetadata: {name: extra}\nspec: {cidr: 10.99.0.0/24}\n`
  writeFileSync(rig.node('node1').path('/var/lib/twill/extra.yaml'), manifest)
  const applied = await twillctl('apply', '-f', '/var/lib/twill/extra.yaml')
  assert.equal([applied.status, applied.stdout], [0, 'IPPool extra created\n'], applied.stderr)
  const status = await twillctl('status')
  assert.is(status.status, 0, status.stdout)
  assert.match(status.stdout, /Datastore +embedded in the daemon at \/run\/twill\/api.sock answers/)
})

test('killed and started again: pool, pod and addresses are as they were', async () => {
  let before = ''
  await until(
    async () => {
      before = await held()
      return before === '2'
    },
    20_000,
    () => `the ledgers hold ${before} addresses, expected the pod's and the tunnel's`,
  )
  await rig.killDaemon('node1')
  const away = await twillctl('get', 'ippools')
  assert.is(away.status, 1)
  assert.match(
    away.stderr,
    /api.sock: nobody listens: twilld has stopped; for a datastore in etcd: --etcd-endpoints/,
  )
  await rig.startDaemon('node1')
  assert.is((await pods()).length, 1)
  assert.match((await twillctl('get', 'ippools')).stdout, /extra/)
  assert.is(await held(), before)
  await rig.addPod('node1', 'second')
  assert.is(
    (await rig.exec('web', ['ping', '-c', '1', '-W', '5', rig.pod('second').addresses[0]!])).status,
    0,
  )
})

test('a damaged file: the daemon refuses to start, names the line and leaves the file alone', async () => {
  await rig.stopDaemon('node1')
  const path = rig.node('node1').path(FILE)
  const whole = readFileSync(path)
  const damaged = Buffer.from(whole)
  damaged[20] = (damaged[20] as number) ^ 1
  writeFileSync(path, damaged)
  const refused = await rig.startDaemon('node1').then(
    () => 'started',
    (error: Error) => error.message,
  )
  assert.match(refused, /datastore \/var\/lib\/twill\/datastore: line 1: .*backup/)
  assert.equal(readFileSync(path), damaged)
  writeFileSync(path, whole)
  await rig.startDaemon('node1')
  assert.is((await pods()).length, 2)
})

test.run()
