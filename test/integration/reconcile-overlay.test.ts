/**
 * Issue: "foreign damage in the node's namespace is repaired: delete each kind of object we own, one by one and
 * all at once", and "restart of the daemon converges without a leftover", on the real kernel.
 */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { vtepMac } from '../../routing/vxlan/vtep.ts'
import { run } from '../fixtures/netns-lab.ts'
import { addUplink, indexes, ReconcileNode, snapshot } from '../fixtures/reconcile-node.ts'
import { attachment, facts, node } from '../unit/daemon/cluster-facts.ts'

const machine = await ReconcileNode.create(2)
let whole: Record<string, string> = {}

test('from an empty namespace to the whole overlay, without a failed step', async () => {
  machine.facts = facts({ attachments: [] })
  machine.loop.start()
  await machine.until('the loop converges', () => machine.loop.report().converged)
  await machine.attach([attachment(1), attachment(2)])
  machine.facts = facts()
  machine.loop.markDirty('facts')
  await machine.loop.settled()
  whole = snapshot()
  assert.equal(machine.failures, [])
  assert.equal(machine.repairs, [])
  assert.match(whole.routes4!, '10.244.2.0/26 via 10.244.2.0 dev twill-vx4 proto 84 src 10.244.1.0 onlink')
  assert.match(
    whole.routes6!,
    'fd00:244::200/122 via fd00:244::200 dev twill-vx4 src fd00:244::100 metric 1024 onlink',
  )
  assert.match(whole.routes4!, 'unreachable 10.244.0.0/16 proto 84 metric 4294967295')
  assert.match(whole.routes4!, 'blackhole 10.244.1.0/26 proto 84 metric 4294967294')
  assert.match(whole.fdb!, `${vtepMac('uid-node2')} dst 192.168.77.2 self permanent`)
  assert.match(whole.neighbours!, `10.244.2.0 dev twill-vx4 lladdr ${vtepMac('uid-node2')} PERMANENT`)
  assert.match(whole.links!, 'twill-vx4')
})

test('what attachPod builds is what the loop desires: nothing of it is mended', async () => {
  const steps = machine.steps.filter(step => JSON.stringify(step).includes('twl0'))
  assert.equal(steps, [])
})

const DAMAGE: Record<string, () => void> = {
  'tunnel address, IPv4': () => run('ip', 'address', 'del', '10.244.1.0/32', 'dev', 'twill-vx4'),
  'tunnel address, IPv6': () => run('ip', 'address', 'del', 'fd00:244::100/128', 'dev', 'twill-vx4'),
  'gateway on lo': () => run('ip', 'address', 'del', '169.254.1.1/32', 'dev', 'lo'),
  'gateway on a host end': () => run('ip', 'address', 'del', 'fe80::1/64', 'dev', 'twl000000000001'),
  'route to a part, IPv4': () => run('ip', 'route', 'del', '10.244.2.0/26'),
  'route to a part, IPv6': () => run('ip', '-6', 'route', 'del', 'fd00:244::200/122'),
  'route to a pod': () => run('ip', 'route', 'del', '10.244.1.1/32'),
  'black hole': () => run('ip', 'route', 'del', 'blackhole', '10.244.1.0/26'),
  'pool`s barrier': () => run('ip', '-6', 'route', 'del', 'unreachable', 'fd00:244::/48'),
  'another route in its place': () => run('ip', 'route', 'replace', '10.244.2.0/26', 'via', '192.168.77.254'),
  'neighbour of a peer': () => run('ip', 'neigh', 'del', '10.244.2.0', 'dev', 'twill-vx4'),
  'neighbour of a pod': () => run('ip', 'neigh', 'del', 'fd00:244::101', 'dev', 'twl000000000001'),
  'wrong MAC of a peer': () =>
    run(
      'ip',
      'neigh',
      'replace',
      '10.244.2.0',
      'dev',
      'twill-vx4',
      'lladdr',
      '02:00:00:00:00:09',
      'nud',
      'permanent',
    ),
  'FDB entry': () =>
    run('bridge', 'fdb', 'del', vtepMac('uid-node2'), 'dev', 'twill-vx4', 'dst', '192.168.77.2'),
  'wrong FDB entry': () =>
    run('bridge', 'fdb', 'replace', vtepMac('uid-node2'), 'dev', 'twill-vx4', 'dst', '192.168.77.99'),
  'a stranger`s FDB entry': () =>
    run('bridge', 'fdb', 'append', '02:00:00:00:00:77', 'dev', 'twill-vx4', 'dst', '192.168.77.77'),
  'a stranger`s route of our protocol': () =>
    run('ip', 'route', 'add', 'blackhole', '10.244.200.0/26', 'proto', '84'),
  'tunnel down': () => run('ip', 'link', 'set', 'twill-vx4', 'down'),
  'tunnel MTU and MAC': () =>
    run('ip', 'link', 'set', 'twill-vx4', 'mtu', '1300', 'address', '02:00:00:00:00:08'),
  'host end down': () => run('ip', 'link', 'set', 'twl000000000001', 'down'),
  'host end alias': () => run('ip', 'link', 'set', 'twl000000000001', 'alias', 'mine'),
  'nftables rules': () => run('nft', 'flush', 'table', 'inet', 'twill'),
  'nftables table': () => run('nft', 'delete', 'table', 'inet', 'twill'),
}

for (const [what, damage] of Object.entries(DAMAGE))
  test(`repaired, and counted: ${what}`, async () => {
    machine.repairs.length = 0
    damage()
    const took = await machine.until(what, () => same(snapshotOrNothing(), whole))
    await machine.loop.settled()
    assert.ok(machine.repairs.length > 0, 'no repair was counted')
    console.log(`    ${what}: ${took} ms (${machine.repairs.join(' ')})`)
  })

test('an uplink that goes down and comes up leaves the overlay whole', async () => {
  run('ip', 'link', 'set', 'eth0', 'down')
  run('ip', 'link', 'set', 'eth0', 'up')
  run('ip', 'route', 'add', 'default', 'via', '192.168.77.254')
  await machine.until('the overlay', () => same(snapshotOrNothing(), whole))
})

test('an uplink that is deleted and made again under its name gets its tunnel back', async () => {
  run('ip', 'link', 'del', 'eth0')
  await machine.loop.settled()
  addUplink()
  await machine.until('the overlay', () => same(snapshotOrNothing(), whole))
})

test('repaired: the tunnel device deleted, and then everything of ours at once', async () => {
  run('ip', 'link', 'del', 'twill-vx4')
  await machine.until('the tunnel', () => same(snapshotOrNothing(), whole))
  run('ip', 'link', 'del', 'twill-vx4')
  run('ip', 'address', 'flush', 'dev', 'lo', 'to', '169.254.1.1')
  run('ip', '-4', 'route', 'flush', 'proto', '84')
  run('ip', '-6', 'route', 'flush', 'proto', '84')
  run('ip', 'neigh', 'flush', 'nud', 'permanent', 'dev', 'twl000000000001')
  run('nft', 'delete', 'table', 'inet', 'twill')
  run('sysctl', '-q', '-w', 'net.ipv4.ip_forward=0')
  const took = await machine.until('everything', () => same(snapshotOrNothing(), whole))
  await machine.until('forwarding', () => run('sysctl', '-n', 'net.ipv4.ip_forward').trim() === '1')
  console.log(`    everything at once: ${took} ms`)
})

test('a restart without memory changes nothing: same indexes, no step', async () => {
  await machine.loop.settled()
  const before = { ...snapshot(), indexes: indexes() }
  machine.steps.length = 0
  machine.repairs.length = 0
  await machine.restart()
  await machine.until('convergence', () => machine.loop.report().converged)
  await machine.loop.settled()
  assert.equal(machine.steps, [])
  assert.equal(machine.repairs, [])
  assert.equal({ ...snapshot(), indexes: indexes() }, before)
})

test('while facts are incomplete, and after they are complete: leftovers stay, then go', async () => {
  run('ip', 'route', 'add', 'blackhole', '10.244.250.0/26', 'proto', '84')
  machine.facts = facts({ known: false, complete: false, nodes: [], slots: new Map() })
  await machine.restart()
  await machine.loop.settled()
  assert.match(run('ip', 'route'), '10.244.250.0/26')
  assert.match(run('ip', 'route'), '10.244.2.0/26')
  machine.facts = facts()
  machine.loop.markDirty('all')
  await machine.until('the leftover is gone', () => !run('ip', 'route').includes('10.244.250.0/26'))
  assert.ok(same(snapshot(), whole))
})

test('a node replaced under the same address: no entry of the old one is left', async () => {
  const mac = vtepMac('uid-node2-again')
  const successor = node(2, { uid: 'uid-node2-again', vteps: [{ ...node(2).vteps[0]!, mac }] })
  const slots = new Map(
    [...facts().slots].map(([key, slot]) => [
      key,
      {
        ...slot,
        parts: slot.parts.map(p => (p.owner === 'uid-node2' ? { ...p, owner: 'uid-node2-again' } : p)),
      },
    ]),
  )
  machine.facts = facts({ nodes: [node(1), successor, node(3)], slots })
  machine.loop.markDirty('facts')
  await machine.loop.settled()
  const now = snapshot()
  assert.match(now.fdb!, `${mac} dst 192.168.77.2`)
  assert.not.match(JSON.stringify(now), vtepMac('uid-node2'))
  machine.facts = facts()
  machine.loop.markDirty('facts')
  await machine.loop.settled()
  assert.ok(same(snapshot(), whole))
})

test('a MAC changed inside a pod is learned: neighbour entry and anti-spoofing follow', async () => {
  run('ip', '-n', `twh${process.pid}-2`, 'link', 'set', 'eth0', 'address', '02:aa:00:00:00:77')
  await machine.until('the neighbour entry', () =>
    run('ip', 'neigh', 'show', 'dev', 'twl000000000002').includes('02:aa:00:00:00:77'),
  )
  await machine.loop.settled()
  const table = run('nft', 'list', 'table', 'inet', 'twill')
  assert.match(table, '02:aa:00:00:00:77')
  assert.not.match(table, '02:aa:00:00:00:02')
})

test('a host end that somebody deleted is handed over to be attached again', async () => {
  run('ip', 'link', 'del', 'twl000000000002')
  await machine.until('the request', () => machine.reattached.includes('attachment2'))
})

test('a pod that is gone from the facts leaves nothing; foreign objects were never touched', async () => {
  machine.facts = facts({ attachments: [attachment(1)] })
  machine.loop.markDirty('facts')
  await machine.loop.settled()
  assert.not.match(JSON.stringify(snapshot()), 'twl000000000002')
  assert.match(run('ip', 'route'), 'default via 192.168.77.254 dev eth0')
  await machine.close()
})

function snapshotOrNothing(): Record<string, string> {
  try {
    return snapshot()
  } catch {
    return {}
  }
}

const same = (now: Record<string, string>, then: Record<string, string>): boolean =>
  JSON.stringify(now) === JSON.stringify(then)

test.run()
