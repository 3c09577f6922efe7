/** Pools that cannot be, and pools that run dry: who is told what, and that nothing is lost by it. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { stringify } from 'yaml'
import { Cluster } from '../../hack/rig/cluster.ts'
import { execPlugin } from '../../hack/rig/cni-client.ts'
import { until } from '../../hack/rig/processes.ts'
import { nodeState, readHolders, readStatus, untilState } from '../fixtures/node-state.ts'

const rig = new Cluster(`twr-p-${process.pid}`)
const test = suite('refusal: pools')
const BOUND_MS = 30_000
const TINY = { cidr: '10.250.0.0/30', blockSize: 30 }
const CONFIG = JSON.stringify({
  cniVersion: '1.0.0',
  name: 'twill',
  type: 'twill',
  twill: { pools: ['tiny'] },
})

test.before(async () => {
  await rig.up({ nodes: 2, config: { coolDown: '2s', heartbeatInterval: '1s' } })
})
test.after(async () => {
  await rig.down()
})

const document = (name: string, spec: object) =>
  stringify({ apiVersion: 'twill.network/v1alpha1', kind: 'IPPool', metadata: { name }, spec })

const apply = (node: string, text: string) =>
  rig.exec(node, ['twillctl', 'apply', '-f', '-'], { input: text, env: rig.node(node).environment })

const plugin = (command: string, ifName: string) =>
  execPlugin(
    rig.node('node1'),
    command,
    'twill',
    { containerId: 'hungry', netns: '/run/netns/hungry', ifName, args: {} },
    CONFIG,
  )

/** Ledgers follow by group commit. */
async function settled(): Promise<void> {
  await until(
    async () => {
      const { node, pods } = await readStatus(rig, 'node1')
      const recorded = await readHolders(rig, node.uid)
      return pods.every(pod => pod.addresses.every(address => recorded.has(address)))
    },
    BOUND_MS,
    () => 'the ledger does not follow',
  )
}

const pools = async () => (await rig.exec('node1', ['twillctl', 'get', 'ippools', '-o', 'yaml'])).stdout

test('an exhausted pool: a clear error, nothing kept; a released address is usable after its cool-down', async () => {
  assert.is((await apply('node1', document('tiny', TINY))).status, 0)
  await rig.node('node1').script('ip netns add hungry')
  const addresses: string[] = []
  for (let i = 0; i < 4; i++) {
    const { status, stdout } = await plugin('ADD', `eth${i}`)
    assert.is(status, 0, stdout)
    addresses.push(JSON.parse(stdout).ips[0].address)
  }
  assert.equal([...addresses].sort(), ['10.250.0.0/32', '10.250.0.1/32', '10.250.0.2/32', '10.250.0.3/32'])
  await settled()
  const full = await nodeState(rig, 'node1')
  const { status, stdout } = await plugin('ADD', 'eth4')
  assert.is(status, 1)
  const { code, msg, details } = JSON.parse(stdout)
  console.log(`  ${code}: ${msg} ${details ?? ''}`)
  assert.match(`${msg} ${details}`, /no address is free in tiny/)
  await untilState(rig, 'node1', full, BOUND_MS)
  assert.is((await plugin('DEL', 'eth1')).status, 0)
  await until(
    async () => (await plugin('ADD', 'eth4')).status === 0,
    BOUND_MS,
    () => 'the released address does not come back',
  )
  const again = await plugin('ADD', 'eth1')
  assert.is(again.status, 1, 'there was one address to be had')
  const pod = (await readStatus(rig, 'node1')).pods.find(({ ifName }) => ifName === 'eth4')
  assert.equal(pod?.addresses, [addresses[1]?.replace('/32', '')])
  for (const ifName of ['eth0', 'eth2', 'eth3', 'eth4']) assert.is((await plugin('DEL', ifName)).status, 0)
  assert.is((await readStatus(rig, 'node1')).ready, true)
})

test('a block size outside its bounds, a CIDR with host bits, an unknown field: field, value, expectation', async () => {
  const before = await pools()
  const wrong: [string, object, RegExp][] = [
    ['too-large', { cidr: '10.99.0.0/16', blockSize: 19 }, /spec\.blockSize.*19.*\/20 to \/32/s],
    ['too-small', { cidr: '10.99.0.0/16', blockSize: 33 }, /spec\.blockSize.*33.*\/20 to \/32/s],
    ['six', { cidr: 'fd99::/112', blockSize: 115 }, /spec\.blockSize.*115.*\/116 to \/128/s],
    ['larger', { cidr: '10.99.0.0/28', blockSize: 26 }, /spec\.blockSize.*26.*\/28/s],
    ['bits', { cidr: '10.99.0.1/16' }, /spec\.cidr.*10\.99\.0\.1\/16/s],
    ['typo', { cidr: '10.99.0.0/16', blocksize: 26 }, /spec\.blocksize|"blocksize"/s],
  ]
  for (const [name, spec, expected] of wrong) {
    const result = await apply('node1', document(name, spec))
    assert.is.not(result.status, 0, name)
    assert.match(result.stderr, expected)
  }
  assert.is(await pools(), before)
})

test('block size and CIDR cannot be changed', async () => {
  const before = await pools()
  const result = await apply('node1', document('tiny', { ...TINY, blockSize: 31 }))
  assert.is.not(result.status, 0)
  assert.match(result.stderr, /blockSize.*31/s)
  assert.is(await pools(), before)
})

test('overlapping pools: the second is refused naming both', async () => {
  const result = await apply('node2', document('over', { cidr: '10.244.0.0/20' }))
  assert.is.not(result.status, 0)
  assert.match(result.stderr, /over.*pods-v4|pods-v4.*over/s)
  assert.match(result.stderr, /10\.244\.0\.0\/20/)
})

test('overlapping pools written at the same instant from two nodes: exactly one gets in, every time', async () => {
  for (let round = 1; round <= 5; round++) {
    const cidr = `10.${100 + round}.0.0`
    const results = await Promise.all([
      apply('node1', document(`wide-${round}`, { cidr: `${cidr}/16` })),
      apply('node2', document(`narrow-${round}`, { cidr: `${cidr}/24` })),
    ])
    assert.equal(results.map(({ status }) => status === 0).sort(), [false, true], JSON.stringify(results))
    const loser = results.find(({ status }) => status !== 0)
    assert.match(
      loser?.stderr ?? '',
      new RegExp(`wide-${round}.*narrow-${round}|narrow-${round}.*wide-${round}`, 's'),
    )
    const listed = (await pools()).split('\n').filter(line => line.includes(`${cidr}/`))
    assert.is(listed.length, 1, listed.join('\n'))
  }
  for (const node of rig.nodes) assert.equal((await readStatus(rig, node)).conditions, [])
})

test('a pool written around twillctl that overlaps: shown as a condition by every daemon, nothing from it', async () => {
  const before = await nodeState(rig, 'node1')
  const uid = '99999999-2222-4333-8444-555555555555'
  const text = JSON.stringify({
    apiVersion: 'twill.network/v1alpha1',
    kind: 'IPPool',
    metadata: { name: 'smuggled', uid },
    spec: { cidr: '10.244.0.0/24', blockSize: 26 },
  })
  await rig.etcdctl(['put', '/twill/v1/resources/ippools/smuggled', text])
  for (const node of rig.nodes)
    await until(
      async () => {
        const { conditions } = await readStatus(rig, node)
        return conditions.some(({ type, message }) => type === 'PoolRefused' && message.includes('smuggled'))
      },
      BOUND_MS,
      () => `${node} says nothing of the pool`,
    )
  await rig.etcdctl(['del', '/twill/v1/resources/ippools/smuggled'])
  for (const node of rig.nodes)
    await until(
      async () => (await readStatus(rig, node)).conditions.length === 0,
      BOUND_MS,
      () => `${node} still complains`,
    )
  await untilState(rig, 'node1', before, BOUND_MS)
})

const UNDER = { uid: '99999999-2222-4333-8444-666666666666', cidr: '192.168.77.0/24' }

/** Straight into etcd, over the network of the nodes, their etcd and their gateway. */
async function smuggle(name: string, metadata: object): Promise<void> {
  const spec = { cidr: UNDER.cidr, blockSize: 26 }
  const text = JSON.stringify({
    ...{ apiVersion: 'twill.network/v1alpha1', kind: 'IPPool' },
    ...{ metadata: { name, ...metadata }, spec },
  })
  await rig.etcdctl(['put', `/twill/v1/resources/ippools/${name}`, text])
}

async function untilTold(message: RegExp): Promise<void> {
  for (const node of rig.nodes)
    await until(
      async () => (await readStatus(rig, node)).conditions.some(condition => message.test(condition.message)),
      BOUND_MS,
      () => `${node} does not say ${message}`,
    )
}

/** Nodes reach etcd and each other, and nothing of the pool stands. */
async function assertUnharmed(): Promise<void> {
  for (const node of rig.nodes) {
    const { datastore, ready } = await readStatus(rig, node)
    assert.equal([datastore.connected, ready], [true, true], node)
    const programmed = await rig.node(node).script('ip route show proto 84; nft list table inet twill')
    assert.not.match(programmed, /192\.168\.77\.0\/2/)
  }
  assert.is((await apply('node1', document('tiny', TINY))).status, 0, 'etcd is reached from node1')
}

test('a pool over the network of the nodes is told and harms nobody, entered or not, and can be deleted', async () => {
  const refused = await apply('node1', document('under', { cidr: UNDER.cidr }))
  assert.is.not(refused.status, 0)
  assert.match(
    refused.stderr,
    /IPPool under \(192\.168\.77\.0\/24\) covers 192\.168\.77\.\d+, the address of node node1/,
  )
  await smuggle('under', {})
  await untilTold(/^IPPool under .* covers 192\.168\.77\.\d+, the address of node node1$/)
  await assertUnharmed()
  await rig.etcdctl(['del', '/twill/v1/resources/ippools/under'])
  const { stdout } = await rig.etcdctl(['get', '--print-value-only', '/twill/v1/address-space'])
  const space = JSON.parse(stdout)
  const entry = { uid: UNDER.uid, name: 'under', cidr: UNDER.cidr, blockSize: 26, state: 'open' }
  await rig.etcdctl([
    'put',
    '/twill/v1/address-space',
    JSON.stringify({ ...space, pools: [...space.pools, entry] }),
  ])
  await smuggle('under', { uid: UNDER.uid })
  await untilTold(/^IPPool under .* covers 192\.168\.77\.\d+, the address of this node: it is not used here/)
  await assertUnharmed()
  await rig.stopDaemon('node1')
  await rig.startDaemon('node1')
  await untilTold(/^IPPool under /)
  await assertUnharmed()
  const deleted = await rig.exec('node1', ['twillctl', 'delete', 'ippool', 'under'], {
    env: rig.node('node1').environment,
  })
  assert.is(deleted.status, 0, deleted.stderr)
  for (const node of rig.nodes)
    await until(
      async () => (await readStatus(rig, node)).conditions.length === 0,
      BOUND_MS,
      () => `${node} still complains`,
    )
})

test.run()
