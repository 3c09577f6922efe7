/**
 * Addresses in a real etcd of three members that lose their leader, a member, their quorum, or one node's way to
 * them, while nodes add and delete. Nothing is lost and nothing doubled.
 *
 * TWILL_TEST_OUTAGE_MS is how long the quorum stays lost (default 3 s; the long run: 30 s).
 */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { systemClock } from '../../lib/clock.ts'
import {
  assertAgreement,
  LoadedNode,
  loadedNodes,
  openEtcdStore,
  settle,
  until,
  untilBusy,
} from '../fixtures/address-load.ts'
import { type CuttingProxy, startProxy } from '../fixtures/cutting-proxy.ts'
import { type EtcdCluster, startEtcdCluster } from '../fixtures/etcd-cluster.ts'
import { type EtcdProgram, etcdPrograms } from '../fixtures/etcd-version.ts'

const OUTAGE_MS = Number(process.env.TWILL_TEST_OUTAGE_MS ?? 3_000)

interface Context {
  etcd: EtcdCluster
  nodes: LoadedNode[]
  proxies: CuttingProxy[]
}

function describe(program: EtcdProgram) {
  const test = suite<Context>(program.name)

  test.before.each(async context => {
    context.proxies = []
    context.etcd = await startEtcdCluster({ program })
    context.nodes = await loadedNodes(context.etcd)
  })
  test.after.each(async ({ nodes, etcd, proxies }) => {
    await Promise.all(nodes.map(node => node.close()))
    for (const proxy of proxies) await proxy.close()
    await etcd.remove()
  })

  const start = async ({ nodes }: Context) => {
    await Promise.all(nodes.map(node => node.start()))
    await untilBusy(nodes, 30)
  }

  test('the leader is killed in mid-burst, twice', async context => {
    await start(context)
    for (let round = 0; round < 2; round++) {
      const leader = await context.etcd.leader()
      await leader.kill()
      await untilBusy(context.nodes, 100)
      leader.start()
    }
    await settle(context)
  })

  test('a member is lost for good: those who used it go on with the others', async context => {
    await start(context)
    const leader = await context.etcd.leader()
    const lost = context.etcd.members.find(member => member !== leader)
    await lost?.kill()
    await untilBusy(context.nodes, 150)
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
    await settle(context)
  })

  test('the members stand still and come back: what was under way then is neither lost nor made twice', async context => {
    await start(context)
    for (let round = 0; round < 2; round++) {
      for (const member of context.etcd.members) member.freeze()
      await systemClock.sleep(1_500)
      for (const member of context.etcd.members) member.thaw()
      await untilBusy(context.nodes, 50)
    }
    await settle(context)
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
    await untilBusy(others, 150)
    await until('the cut-off node is told to wait', () => alone.refused > 0)
    for (const proxy of context.proxies) {
      proxy.cut()
      proxy.refuse(false)
    }
    await settle(context)
    assert.ok(others.every(({ added }) => added > 150))
  })

  test.run()
}

for (const program of etcdPrograms()) describe(program)
