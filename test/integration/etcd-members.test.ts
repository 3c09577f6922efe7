/**
 * Addresses in a real etcd of three members that lose their leader, a member, their quorum, or one node's way to
 * them, while nodes add and delete. Nothing is lost and nothing doubled.
 *
 * TWILL_TEST_OUTAGE_MS is how long the quorum stays lost (default 3 s; the long run: 30 s).
 */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { createPool } from '../../ipam/pools.ts'
import { systemClock } from '../../lib/clock.ts'
import { systemRandom } from '../../lib/random.ts'
import { assertAgreement, LoadedNode, openEtcdStore } from '../fixtures/address-load.ts'
import { type CuttingProxy, startProxy } from '../fixtures/cutting-proxy.ts'
import { type EtcdCluster, startEtcdCluster } from '../fixtures/etcd-cluster.ts'
import { type EtcdProgram, etcdPrograms } from '../fixtures/etcd-version.ts'
import { pool } from '../unit/ipam/rig.ts'

const OUTAGE_MS = Number(process.env.TWILL_TEST_OUTAGE_MS ?? 3_000)

interface Context {
  etcd: EtcdCluster
  nodes: LoadedNode[]
  proxies: CuttingProxy[]
}

async function until(what: string, condition: () => boolean): Promise<void> {
  for (let waited = 0; !condition(); waited += 20) {
    if (waited > 60_000) throw new Error(`${what}: not after 60 s`)
    await systemClock.sleep(20)
  }
}

/** Each node has added so many more. */
async function busy(nodes: readonly LoadedNode[], more: number): Promise<void> {
  const before = nodes.map(({ added }) => added)
  await until(`${more} more ADDs of each node`, () =>
    nodes.every(({ added }, i) => added >= (before[i] as number) + more),
  )
}

async function settled({ etcd, nodes }: Context): Promise<void> {
  for (const each of etcd.members) each.start()
  await etcd.healthy()
  await busy(nodes, 20)
  await Promise.all(nodes.map(node => node.settle()))
  const observer = openEtcdStore(etcd.endpoints)
  await assertAgreement(observer, nodes).finally(() => observer.close())
}

/** The endpoints, each node beginning with another. */
const rotated = (endpoints: readonly string[], by: number) => [
  ...endpoints.slice(by % endpoints.length),
  ...endpoints.slice(0, by % endpoints.length),
]

function describe(program: EtcdProgram) {
  const test = suite<Context>(program.name)

  test.before.each(async context => {
    context.proxies = []
    context.etcd = await startEtcdCluster({ program })
    const operator = openEtcdStore(context.etcd.endpoints)
    // Small slots, so that the nodes claim again and again.
    await createPool(pool('p', '10.0.0.0/22', 29), {
      store: operator,
      random: systemRandom,
      clock: systemClock,
    })
    await operator.close()
    context.nodes = [0, 1, 2].map(i => new LoadedNode(`n${i}`, rotated(context.etcd.endpoints, i)))
  })
  test.after.each(async ({ nodes, etcd, proxies }) => {
    await Promise.all(nodes.map(node => node.close()))
    for (const proxy of proxies) await proxy.close()
    await etcd.remove()
  })

  const start = async ({ nodes }: Context) => {
    await Promise.all(nodes.map(node => node.start()))
    await busy(nodes, 30)
  }

  test('the leader is killed in mid-burst, twice', async context => {
    await start(context)
    for (let round = 0; round < 2; round++) {
      const leader = await context.etcd.leader()
      await leader.kill()
      await busy(context.nodes, 100)
      leader.start()
    }
    await settled(context)
  })

  test('a member is lost for good: those who used it go on with the others', async context => {
    await start(context)
    const leader = await context.etcd.leader()
    const lost = context.etcd.members.find(member => member !== leader)
    await lost?.kill()
    await busy(context.nodes, 150)
    await Promise.all(context.nodes.map(node => node.settle()))
    const observer = openEtcdStore(context.etcd.endpoints)
    await assertAgreement(observer, context.nodes).finally(() => observer.close())
  })

  test('the quorum is lost: what the nodes have goes on, the rest is told to wait; afterwards all agree', async context => {
    await start(context)
    const leader = await context.etcd.leader()
    const refusedBefore = context.nodes.map(({ refused }) => refused)
    for (const member of context.etcd.members) if (member !== leader) await member.kill()
    await systemClock.sleep(OUTAGE_MS)
    await until('an ADD is told to wait', () =>
      context.nodes.some(({ refused }, i) => refused > (refusedBefore[i] as number)),
    )
    await settled(context)
  })

  test('the members stand still and come back: what was under way then is neither lost nor made twice', async context => {
    await start(context)
    for (let round = 0; round < 2; round++) {
      for (const member of context.etcd.members) member.freeze()
      await systemClock.sleep(1_500)
      for (const member of context.etcd.members) member.thaw()
      await busy(context.nodes, 50)
    }
    await settled(context)
  })

  test('one node is cut off from etcd, silently, then by refusal: the others do not notice', async context => {
    context.proxies = await Promise.all(context.etcd.members.map(startProxy))
    const [cut, ...others] = context.nodes as [LoadedNode, ...LoadedNode[]]
    await cut.close()
    const alone = new LoadedNode(
      'cut',
      context.proxies.map(({ endpoint }) => endpoint),
    )
    context.nodes = [alone, ...others]
    await start(context)
    for (const proxy of context.proxies) {
      proxy.blackHole()
      proxy.refuse(true)
    }
    await busy(others, 150)
    await until('the cut-off node is told to wait', () => alone.refused > 0)
    for (const proxy of context.proxies) {
      proxy.cut()
      proxy.refuse(false)
    }
    await settled(context)
    assert.ok(others.every(({ added }) => added > 150))
  })

  test.run()
}

for (const program of etcdPrograms()) describe(program)
