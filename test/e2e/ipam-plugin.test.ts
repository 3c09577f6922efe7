/**
 * twill-ipam under Debian's bridge, macvlan and ptp, on two nodes from one pool: addresses that are unique in the
 * cluster, what each plugin makes of the result, and that nothing is lost or doubled whatever dies meanwhile.
 */
import { randomBytes } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { Cluster } from '../../hack/rig/cluster.ts'
import {
  type CniCall,
  type CniResult,
  type ConfList,
  cniAdd,
  cniCheck,
  cniDel,
  execPlugin,
} from '../../hack/rig/cni-client.ts'
import { UNDERLAY } from '../../hack/rig/layout.ts'
import { until } from '../../hack/rig/processes.ts'
import { FAULT_POINTS, type FaultPoint } from '../../lib/fault.ts'
import { readHolders, readStatus } from '../fixtures/node-state.ts'
import { kernelLacks } from '../fixtures/skip.ts'

const rig = new Cluster(`plugin-${process.pid}`)
const test = suite('twill-ipam')
const NODES = ['node1', 'node2'] as const
type Node = (typeof NODES)[number]

const POOLS = `
apiVersion: twill.network/v1alpha1
kind: IPPool
metadata: { name: lan }
spec: { cidr: 10.50.0.0/16, allowedUses: [ipam] }
---
apiVersion: twill.network/v1alpha1
kind: IPPool
metadata: { name: lan6 }
spec: { cidr: 'fd50::/112', allowedUses: [ipam] }
---
apiVersion: twill.network/v1alpha1
kind: IPPool
metadata: { name: l2 }
spec: { cidr: 10.60.0.0/24, blockSize: 28, gateway: 10.60.0.254, allowedUses: [ipam] }
`

const listOf = (name: string, main: object, ipam: object): ConfList => ({
  cniVersion: '1.0.0',
  name,
  plugins: [{ type: '', ...main, ipam: { type: 'twill-ipam', ...ipam } }],
})
const BRIDGE = listOf(
  'bridged',
  {
    type: 'bridge',
    bridge: 'cni0',
    isGateway: true,
    isDefaultGateway: true,
    ipMasq: true,
    hairpinMode: true,
  },
  { pools: ['lan', 'lan6'] },
)
const MACVLAN = listOf('flat', { type: 'macvlan', master: 'eth0', mode: 'bridge' }, { pools: ['l2'] })
const IPVLAN = listOf('flat2', { type: 'ipvlan', master: 'eth0', mode: 'l2' }, { pools: ['l2'] })
const PTP = listOf(
  'pointed',
  { type: 'ptp' },
  { pools: ['lan'], families: ['IPv4'], routes: [{ dst: '0.0.0.0/0' }] },
)

interface Container {
  readonly node: Node
  readonly call: CniCall
  readonly list: ConfList
}

const made: Container[] = []

async function container(node: Node, list: ConfList, ifName = 'eth0'): Promise<Container> {
  const name = `c${made.length}`
  await rig.node(node).script(`ip netns add ${name}; ip -n ${name} link set lo up`)
  const containerId = randomBytes(16).toString('hex')
  const made_ = { node, list, call: { containerId, netns: `/run/netns/${name}`, ifName, args: {} } }
  made.push(made_)
  return made_
}
const add = ({ node, list, call }: Container) => cniAdd(rig.node(node), list, call)
const check = ({ node, list, call }: Container, result: CniResult) =>
  cniCheck(rig.node(node), list, call, result)
const del = ({ node, list, call }: Container, result?: CniResult) =>
  cniDel(rig.node(node), list, call, result)
const inside = ({ node, call }: Container, command: string[]) =>
  rig.node(node).run(['nsenter', `--net=${call.netns}`, ...command])

async function pings(from: Container, address: string): Promise<void> {
  const ping = await inside(from, ['ping', '-c2', '-W5', '-i0.2', address])
  assert.is(ping.status, 0, `${from.node} ${from.call.netns} → ${address}: ${ping.stdout}`)
}

const addressesOf = (result: CniResult): string[] => (result.ips ?? []).map(({ address }) => address)
const plain = (address: string) => address.split('/')[0] as string

/** What is lent on the node, as daemon and ledger say. */
async function lent(node: Node): Promise<string[]> {
  const status = await readStatus(rig, node)
  return status.leases.flatMap(({ addresses }) => addresses).sort()
}

async function untilLedgerSays(node: Node, expected: string[]): Promise<void> {
  const { node: self } = await readStatus(rig, node)
  let seen: string[] = []
  await until(
    async () => {
      const holders = [...(await readHolders(rig, self.uid))]
      seen = holders.flatMap(([address, holder]) => (holder.startsWith('ipam-') ? [address] : [])).sort()
      return JSON.stringify(seen) === JSON.stringify(expected)
    },
    30_000,
    () => `the ledger of ${node} has ${seen}, expected ${expected}`,
  )
}

/** As another plugin calls it, without that plugin. */
async function direct(node: Node, command: string, call: CniCall, config: object = {}, file = 'twill-ipam') {
  const stdin = {
    cniVersion: '1.1.0',
    name: 'direct',
    type: 'bridge',
    ipam: { type: 'twill-ipam' },
    ...config,
  }
  const outcome = await execPlugin(rig.node(node), command, file, call, JSON.stringify(stdin))
  return { status: outcome.status, json: outcome.stdout === '' ? null : JSON.parse(outcome.stdout) }
}

/** Begun first, so that GC no longer takes it for one whose ADD is under way. */
let stale: Container

test.before(async () => {
  await rig.up({ nodes: 2, config: { coolDown: '1s' } })
  await rig.node('node1').must(['sh', '-c', 'cat >/run/pools.yaml'], { input: POOLS })
  await rig.node('node1').must(['twillctl', 'apply', '-f', '/run/pools.yaml'])
  stale = await container('node2', BRIDGE)
  await until(
    async () => (await direct('node2', 'ADD', stale.call)).status === 0,
    30_000,
    () => 'the pools do not come into use',
  )
})
test.after(async () => {
  await rig.down()
})

test('CNI-240 CNI-244 CNI-246 bridge on both nodes from one pool: a subnet with its gateway on each', async () => {
  const seen = new Set<string>()
  const results: [Container, CniResult][] = []
  for (const node of NODES)
    for (let i = 0; i < 2; i++) {
      const each = await container(node, BRIDGE)
      const result = await add(each)
      results.push([each, result])
      const [v4, v6] = addressesOf(result) as [string, string]
      assert.match(v4, /^10\.50\.\d+\.\d+\/16$/)
      assert.match(v6, /^fd50::[0-9a-f]+\/112$/)
      for (const address of [v4, v6]) assert.not.ok(seen.has(address), address)
      seen.add(v4).add(v6)
      assert.equal(
        result.ips?.map(({ gateway }) => gateway),
        ['10.50.0.1', 'fd50::1'],
      )
      for (const gateway of ['10.50.0.1', 'fd50::1']) await pings(each, gateway)
      await check(each, result)
    }
  const [one, two] = results as [[Container, CniResult], [Container, CniResult]]
  for (const address of addressesOf(two[1])) await pings(one[0], plain(address))
  await pings(one[0], UNDERLAY.outside.v4)
  for (const node of NODES) {
    const routes = await rig
      .node(node)
      .must(['sh', '-c', 'ip route show proto 84; ip -6 route show proto 84'])
    assert.not.match(routes, /10\.50\.|10\.60\.|fd50:/)
  }
  for (const [each, result] of results) {
    await del(each, result)
    await del(each)
  }
  assert.equal(await lent('node1'), [])
})

/** Each node's container on the wire of the underlay. */
async function onOneWire(list: ConfList): Promise<void> {
  const [one, two] = [await container('node1', list), await container('node2', list)]
  const [first, second] = [await add(one), await add(two)]
  assert.equal(
    [first, second].map(({ ips }) => ips?.[0]?.gateway),
    ['10.60.0.254', '10.60.0.254'],
  )
  const [to] = addressesOf(second) as [string]
  assert.match(to, /\/24$/)
  await pings(one, plain(to))
  await untilLedgerSays('node1', addressesOf(first).map(plain))
  await check(one, first)
  await del(one, first)
  await del(two, second)
  await untilLedgerSays('node1', [])
}

test('CNI-244 macvlan on both nodes: neighbours on one wire, and nobody has the operator`s gateway', () =>
  onOneWire(MACVLAN))

test('CNI-244 ipvlan on both nodes: the same', async ({ __test__ }) => {
  if (!kernelLacks('ipvlan', __test__)) await onOneWire(IPVLAN)
})

test('CNI-116 CNI-245 ptp asks for addresses first: a second ADD is refused, and harms the first in nothing', async () => {
  const each = await container('node1', PTP)
  const result = await add(each)
  await pings(each, '10.50.0.1')
  const refusal = await add(each).then(
    () => 'granted',
    error => (error as Error).message,
  )
  assert.match(refusal, /attached to pointed already/)
  assert.equal(await lent('node1'), addressesOf(result).map(plain))
  await check(each, result)
  await pings(each, '10.50.0.1')
  await del(each, result)
  assert.equal(await lent('node1'), [])
})

test('CNI-100 CNI-135 without the daemon: ADD is 11, DEL is filed and done at the next start', async () => {
  const each = await container('node1', BRIDGE)
  const result = await add(each)
  await rig.killDaemon('node1')
  const refused = await container('node1', BRIDGE)
  const refusal = await add(refused).then(
    () => null,
    error => error as { code?: number },
  )
  assert.is(refusal?.code, 11)
  await del(each, result)
  const link = await inside(each, ['ip', 'link', 'show', 'eth0'])
  assert.is(link.status, 1)
  await rig.startDaemon('node1')
  assert.equal(await lent('node1'), [])
  await untilLedgerSays('node1', [])
})

test('no pool: an error of its own, and nothing is left', async () => {
  const list = listOf('nowhere', { type: 'bridge', bridge: 'cni0' }, { pools: ['pods-v4'] })
  const each = await container('node1', list)
  const refusal = await add(each).then(
    () => null,
    error => error as Error & { code?: number },
  )
  assert.is(refusal?.code, 103)
  assert.match(refusal?.message ?? '', /no enabled pool named pods-v4 that allows ipam/)
  await del(each)
  assert.equal(await lent('node1'), [])
})

/** Starts again armed with the next point, which looking, DEL and a repeated ADD do not pass. */
async function restart(point: FaultPoint | null): Promise<void> {
  await until(
    () => rig.node('node1').servicePid('twilld') === undefined,
    10_000,
    () => 'the fault point was never reached',
  )
  await rig.startDaemon('node1', point === null ? {} : { env: { TWILL_FAULT: point } })
}

test('killed at every step of ADD and DEL (CNI-009, CNI-120, CNI-242)', async () => {
  const { call } = await container('node1', BRIDGE)
  const [first, ...others] = FAULT_POINTS.lease
  assert.equal(others.at(-1), 'lease.ended-written')
  await rig.stopDaemon('node1')
  await restart(first)
  for (const [i, point] of FAULT_POINTS.lease.slice(0, -1).entries()) {
    const added = await direct('node1', 'ADD', call)
    await restart(others[i] as FaultPoint)
    if (point === 'lease.answered') {
      assert.equal((await direct('node1', 'ADD', call)).json, added.json)
      break
    }
    assert.is(added.json.code, 11, point)
    const written = point === 'lease.written'
    assert.is((await lent('node1')).length, written ? 2 : 0, point)
    assert.is((await direct('node1', 'DEL', call)).status, 0)
    assert.equal(await lent('node1'), [], point)
  }
  assert.is((await direct('node1', 'DEL', call)).status, 0)
  await restart(null)
  assert.equal(await lent('node1'), [])
  await untilLedgerSays('node1', [])
})

test('rule 17: a lease whose journal record is damaged stands in the ledger, and its address goes to nobody else', async () => {
  const each = await container('node1', PTP)
  const result = await add(each)
  const [address] = addressesOf(result).map(plain) as [string]
  await untilLedgerSays('node1', [address])
  await rig.killDaemon('node1')
  const journal = rig.node('node1').path('/var/lib/twill/journal')
  const lines = readFileSync(journal, 'utf8').split('\n')
  const torn = lines.map(line =>
    line.includes(`"address":"${address}"`) ? line.replace('"t":"lease"', '"t":"leasf"') : line,
  )
  assert.is.not(torn.join('\n'), lines.join('\n'))
  writeFileSync(journal, torn.join('\n'))
  await rig.startDaemon('node1')
  assert.equal(await lent('node1'), [address])
  const other = await container('node1', PTP)
  assert.not.ok(
    addressesOf(await add(other))
      .map(plain)
      .includes(address),
  )
  await check(each, result)
  await del(each, result)
  await del(other)
  assert.equal(await lent('node1'), [])
})

test('rule 17: after a reboot the leases of the boot before are dead', async () => {
  const each = await container('node1', BRIDGE)
  await direct('node1', 'ADD', each.call)
  assert.is((await lent('node1')).length, 2)
  await rig.stopNode('node1')
  await rig.startNode('node1')
  assert.equal(await lent('node1'), [])
  await untilLedgerSays('node1', [])
})

test('CNI-160 CNI-161 CNI-164 CNI-243 GC ends what is not listed, on this network and node only', async () => {
  const call: CniCall = { containerId: '', netns: '', ifName: '', args: {} }
  const gc = (config: object) => direct('node2', 'GC', call, config)
  const before = await lent('node2')
  assert.is(before.length, 2)
  const { containerId, ifName } = stale.call
  const valid = [{ containerID: containerId, ifname: ifName }]
  for (const config of [
    {},
    { 'cni.dev/valid-attachments': valid },
    { name: 'other', 'cni.dev/valid-attachments': [] },
  ]) {
    assert.equal(await gc(config), { status: 0, json: null })
    assert.equal(await lent('node2'), before)
  }
  await until(
    async () => {
      assert.equal(await gc({ 'cni.dev/valid-attachments': [] }), { status: 0, json: null })
      return (await lent('node2')).length === 0
    },
    30_000,
    () => 'the stale lease stands',
  )
})

test('CNI-171 CNI-243 STATUS: about the pools of the network', async () => {
  const call: CniCall = { containerId: '', netns: '', ifName: '', args: {} }
  const status = (pools: string[]) => direct('node2', 'STATUS', call, { ipam: { type: 'twill-ipam', pools } })
  assert.equal(await status(['lan']), { status: 0, json: null })
  assert.is((await status(['pods-v4'])).json.code, 50)
})

test('CNI-008 twill-offline installed as twill-ipam, as where there was no C compiler', async () => {
  await rig
    .node('node2')
    .script('mkdir /opt/cni/bin/alone; cp -L /opt/cni/bin/twill-offline /opt/cni/bin/alone/twill-ipam')
  const each = await container('node2', BRIDGE)
  const added = await direct('node2', 'ADD', each.call, {}, 'alone/twill-ipam')
  assert.is(added.status, 0, JSON.stringify(added.json))
  assert.equal(Object.keys(added.json), ['cniVersion', 'ips'])
  await rig.killDaemon('node2')
  assert.equal(await direct('node2', 'DEL', each.call, {}, 'alone/twill-ipam'), { status: 0, json: null })
  await rig.startDaemon('node2')
  assert.equal(await lent('node2'), [])
})

test.run()
