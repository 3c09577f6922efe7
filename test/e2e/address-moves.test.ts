/**
 * A pool of one slot for two nodes: addresses move to the node that needs them, pods talk across, and everything
 * merges again when they have gone; also when either daemon is killed in mid-request.
 */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { Cluster } from '../../hack/rig/cluster.ts'
import { until } from '../../hack/rig/processes.ts'
import { FAULT_POINTS } from '../../lib/fault.ts'
import { readOwnedParts, readStatus } from '../fixtures/node-state.ts'

const rig = new Cluster(`parts-${process.pid}`)
const test = suite('addresses move')
const BOUND_MS = 60_000
const pool = (name: string, cidr: string, blockSize: number, allowedUses: string[]) => ({
  name,
  spec: { cidr, blockSize, allowedUses },
})

test.before(async () => {
  await rig.up({
    nodes: 2,
    config: {
      coolDown: '1s',
      heartbeatInterval: '1s',
      firstPools: [
        pool('pods', '10.244.0.0/29', 29, ['pod']),
        pool('tunnels', '10.244.1.0/28', 30, ['tunnel']),
      ],
    },
  })
})
test.after(async () => {
  await rig.down()
})

/** The pool for pods, as the slots say: prefix and name of its owner. */
async function podParts(): Promise<string[]> {
  const found: string[] = []
  for (const name of rig.nodes) {
    const { node } = await readStatus(rig, name)
    const parts = await readOwnedParts(rig, node.uid)
    found.push(...parts.filter(part => part.startsWith('10.244.0.')).map(part => `${part} ${name}`))
  }
  return found.sort()
}

const untilParts = async (accepts: (parts: string[]) => boolean): Promise<void> => {
  let last: string[] = []
  await until(
    async () => {
      last = await podParts()
      return accepts(last)
    },
    BOUND_MS,
    () => `parts are ${last.join(', ')}`,
  )
}

const untilMerged = () => untilParts(parts => parts.length === 0 || parts.every(part => part.includes('/29')))

const pods = (node: string, count: number) => Array.from({ length: count }, (_, i) => `${node}-p${i}`)

async function add(node: string, count: number): Promise<string[]> {
  const addresses: string[] = []
  for (const name of pods(node, count)) addresses.push((await rig.addPod(node, name)).addresses[0] as string)
  return addresses
}

async function remove(names: readonly string[]): Promise<void> {
  for (const name of names) await rig.deletePod(name)
}

async function reaches(from: string, to: string): Promise<void> {
  await until(
    async () =>
      (await rig.exec(from, ['ping', '-c', '1', '-W', '1', rig.pod(to).addresses[0] as string])).status === 0,
    BOUND_MS,
    () => `${from} does not reach ${to}`,
  )
}

test('every slot is taken: a node gets what another has free, its pods talk, and all of it merges again', async () => {
  const first = await add('node1', 3)
  const second = await add('node2', 5)
  assert.is(new Set([...first, ...second]).size, 8)
  const parts = await podParts()
  assert.ok(
    parts.some(part => part.endsWith('node1')) && parts.some(part => part.endsWith('node2')),
    parts.join(', '),
  )
  for (const [from, to] of [
    ['node1-p0', 'node2-p0'],
    ['node2-p4', 'node1-p2'],
    ['node1-p1', 'node2-p4'],
  ] as const)
    await reaches(from, to)
  for (const node of rig.nodes) {
    const error = await rig.addPod(node, `${node}-none`).then(
      () => null,
      (refusal: unknown) => refusal,
    )
    assert.match(String(error), /no address is free/)
  }
  await remove([...pods('node1', 3), ...pods('node2', 5)])
  await untilMerged()
})

/** The other node owns the slot, with a pod in it, when the one at `node` starts again with the fault. */
async function ownedBy(owner: string): Promise<void> {
  await rig.addPod(owner, 'keeper')
  await untilParts(parts => parts.length > 0 && parts.every(part => part.endsWith(owner)))
}

const killed = (node: string, point: string) =>
  until(
    () => rig.node(node).servicePid('twilld') === undefined,
    BOUND_MS,
    () => `${point} was never reached`,
  )

for (const [points, victim] of [
  [FAULT_POINTS.request, 'node2'],
  [FAULT_POINTS.gift, 'node1'],
] as const)
  for (const point of points)
    test(`${victim} is killed at ${point}: nothing is lost, and the pod starts when it is back`, async () => {
      await ownedBy('node1')
      await rig.stopDaemon(victim)
      await rig.startDaemon(victim, { env: { TWILL_FAULT: point } })
      const asked = rig.addPod('node2', 'needy').catch(() => null)
      await killed(victim, point)
      await asked
      await rig.startDaemon(victim)
      if (!rig.pods().some(pod => pod.name === 'needy')) await rig.addPod('node2', 'needy')
      await reaches('needy', 'keeper')
      for (const name of rig.nodes) {
        const { node, parts } = await readStatus(rig, name)
        assert.equal(parts.map(part => part.cidr).sort(), await readOwnedParts(rig, node.uid), name)
      }
      await remove(['needy', 'keeper'])
      await untilMerged()
    })

test.run()
