import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type { Facts } from '../../../daemon/desired/facts.ts'
import { LOOP, Loop, type LoopModules } from '../../../daemon/loop.ts'
import type { KernelEvent } from '../../../kernel/kernel.ts'
import { silentLog } from '../../../lib/log.ts'
import { ManualClock } from '../../fixtures/manual-clock.ts'
import { attachment, facts, node, pool } from './cluster-facts.ts'
import { KernelModel, link, podLink, route } from './kernel-model.ts'

function machine(): KernelModel {
  const kernel = new KernelModel()
  kernel.addLink(link('eth0'))
  kernel.addLink(podLink(1))
  kernel.addLink(podLink(2))
  kernel.addUplinkAddress()
  return kernel
}

interface Rig {
  kernel: KernelModel
  clock: ManualClock
  loop: Loop
  facts: Facts
  repairs: string[]
  failures: string[]
  passes: number
  reattached: string[]
  learned: string[]
}

function rig(kernel = machine(), modules: Partial<LoopModules> = {}): Rig {
  const clock = new ManualClock()
  const rig = {
    kernel,
    clock,
    facts: facts(),
    repairs: [],
    failures: [],
    passes: 0,
    reattached: [],
    learned: [],
  } as unknown as Rig
  rig.loop = new Loop(LOOP, {
    kernel: kernel.kernel(),
    facts: () => rig.facts,
    clock,
    random: { fraction: () => 0.5, hex: () => '', uuid: () => '' },
    log: silentLog,
    metrics: {
      repaired: (kind, reason) => rig.repairs.push(`${kind} ${reason}`),
      stepFailed: kind => rig.failures.push(kind),
      passed: () => rig.passes++,
    },
    reattach: async id => void rig.reattached.push(id),
    learnPodMac: async (id, mac) => void rig.learned.push(`${id} ${mac}`),
    ...modules,
  })
  return rig
}

async function converged(modules: Partial<LoopModules> = {}): Promise<Rig> {
  const all = rig(machine(), modules)
  all.loop.start()
  await all.clock.advance(200)
  assert.ok(all.loop.report().converged, JSON.stringify([...all.loop.report().failing]))
  all.kernel.executed = []
  return all
}

const podMac = (hostInterface: string, mac: string): KernelEvent => ({
  type: 'pod-mac',
  hostIndex: 3,
  hostInterface,
  mac,
})

const heard = (all: Rig, domain: 'link' | 'address' | 'route' | 'neighbour' | 'fdb' | 'netfilter') =>
  all.kernel.listener({ type: 'changed', domain })

test('rules stand before a tunnel opens; then everything does, and none of it counts as a repair', async () => {
  const kernel = machine()
  kernel.failRules = true
  const all = rig(kernel)
  all.loop.start()
  await all.clock.advance(1000)
  assert.not(kernel.links.has('twill-vx4'))
  kernel.failRules = false
  await all.clock.advance(10_000)
  assert.ok(kernel.links.has('twill-vx4'))
  assert.ok(kernel.routes.has('10.244.2.0/26 0'))
  assert.equal(all.repairs, [])
  assert.ok(all.loop.report().converged)
  assert.is(all.loop.report().failing.size, 0)
  await all.loop.stop()
})

test('a daemon that remembers nothing meets a kernel that is as it should be: no step, and the table replaced once', async () => {
  const first = await converged()
  await first.loop.stop()
  const second = rig(first.kernel)
  second.loop.start()
  await second.clock.advance(200)
  assert.equal(first.kernel.executed, [])
  assert.is(first.kernel.replacements, 2)
  assert.equal(second.repairs, [])
  await second.loop.stop()
})

test('each kind of object that somebody deletes comes back at the notification, counted by kind', async () => {
  const all = await converged()
  const { kernel, clock } = all
  const before = JSON.stringify(kernel.observed())
  for (const [domain, damage] of [
    ['address', () => kernel.addresses.delete('twill-vx4 10.244.1.0/32')],
    ['route', () => kernel.routes.delete('10.244.2.0/26 0')],
    ['route', () => kernel.routes.delete('10.244.0.0/16 4294967295')],
    ['neighbour', () => kernel.neighbours.delete('twill-vx4 10.244.2.0')],
    ['fdb', () => kernel.fdb.delete([...kernel.fdb.keys()][0]!)],
  ] as const) {
    damage()
    all.repairs.length = 0
    heard(all, domain)
    await clock.advance(100)
    assert.equal(all.repairs, [`${domain} missing`])
  }
  assert.is(JSON.stringify(sorted(kernel.observed())), JSON.stringify(sorted(JSON.parse(before))))
  await all.loop.stop()
})

const sorted = (observed: object) =>
  Object.values(observed).map(table =>
    Array.isArray(table) ? table.map(each => JSON.stringify(each)).sort() : 0,
  )

test('the tunnel device deleted by hand comes back with all that stood on it', async () => {
  const all = await converged()
  all.kernel.removeLink('twill-vx4')
  heard(all, 'link')
  await all.clock.advance(100)
  assert.ok(all.kernel.routes.has('fd00:244::200/122 1024'))
  assert.is(all.kernel.fdb.size, 2)
  assert.ok(all.repairs.includes('link missing') && all.repairs.includes('route missing'))
  await all.loop.stop()
})

test('a switch is looked at without any notification', async () => {
  const all = await converged()
  all.kernel.sysctls.set('net/ipv4/ip_forward', '0')
  await all.clock.advance(900)
  assert.is(all.kernel.sysctls.get('net/ipv4/ip_forward'), '1')
  assert.equal(all.repairs, ['sysctl different'])
  await all.loop.stop()
})

test('a switch that changes after a look at other kinds alone is a repair as well', async () => {
  const all = await converged()
  heard(all, 'address')
  await all.clock.advance(60)
  all.kernel.sysctls.set('net/ipv4/ip_forward', '0')
  await all.clock.advance(900)
  assert.equal(all.repairs, ['sysctl different'])
  await all.loop.stop()
})

test('accept chains that iptables-legacy lost are back before they are looked at by time', async () => {
  const all = await converged()
  all.kernel.legacyFilters = 'with our chain'
  await all.clock.advance(1_000)
  all.kernel.accepted = []
  all.kernel.legacyFilters = 'without'
  await all.clock.advance(700)
  assert.not.equal(all.kernel.accepted, [])
  assert.equal(all.repairs, ['accept different'])
  await all.loop.stop()
})

test('no pass comes before the start, whatever is known by then', async () => {
  const all = rig()
  all.loop.markDirty('facts')
  await all.clock.advance(1_000)
  assert.is(all.passes, 0)
  all.loop.start()
  await all.clock.advance(1_000)
  assert.ok(all.loop.report().converged)
  await all.loop.stop()
})

test('an idle node is not looked through because switches are', async () => {
  const all = await converged()
  await all.clock.advance(1_000)
  const passes = all.kernel.linkReads
  await all.clock.advance(5_000)
  assert.is(all.kernel.linkReads, passes)
  heard(all, 'route')
  await all.clock.advance(1_000)
  assert.ok(all.kernel.linkReads > passes)
  await all.loop.stop()
})

test('what pods that come and go change is looked at together; damage at once', async () => {
  const all = await converged()
  await all.clock.advance(600)
  const before = all.kernel.linkReads
  for (let i = 0; i < 40; i++) {
    all.kernel.listener({ type: 'changed', domain: 'route', own: true })
    all.kernel.listener({ type: 'changed', domain: 'link', own: false, consequence: true })
    all.kernel.listener(podMac('twl000000000001', attachment(1).podMac))
    await all.clock.advance(25)
  }
  const looks = all.kernel.linkReads - before
  assert.ok(looks <= 2, `${looks} looks in a second`)
  await all.clock.advance(1_100)
  assert.ok(all.kernel.linkReads > before + looks, 'the end of a burst is looked at')
  const calm = all.kernel.linkReads
  all.kernel.listener({ type: 'changed', domain: 'link', own: false })
  await all.clock.advance(100)
  assert.ok(all.kernel.linkReads > calm)
  await all.loop.stop()
})

test('a damaged table is replaced; an intact one is not', async () => {
  const all = await converged()
  heard(all, 'netfilter')
  await all.clock.advance(100)
  assert.is(all.kernel.replacements, 1)
  all.kernel.intact = false
  heard(all, 'netfilter')
  await all.clock.advance(100)
  assert.is(all.kernel.replacements, 2)
  assert.equal(all.repairs, ['netfilter different'])
  await all.loop.stop()
})

test('a pod`s new MAC changes its elements without replacing the table', async () => {
  const all = await converged()
  all.facts = facts({ attachments: [attachment(1, { podMac: '02:bb:00:00:00:01' }), attachment(2)] })
  all.loop.markDirty('facts')
  await all.clock.advance(100)
  const elements = [...all.kernel.ruleset!.elements.values()].flatMap(set => [...set]).join(' ')
  assert.match(elements, '02:bb:00:00:00:01')
  assert.not.match(elements, '02:aa:00:00:00:01')
  assert.is(all.kernel.replacements, 1)
  assert.is(all.kernel.neighbours.get('twl000000000001 10.244.1.1')?.mac, '02:bb:00:00:00:01')
  assert.equal(all.repairs, [])
  await all.loop.stop()
})

test('the MAC that the kernel reports is handed on with the attachment it belongs to', async () => {
  const all = await converged()
  all.kernel.listener(podMac('twl000000000002', '02:cc:00:00:00:02'))
  all.kernel.listener(podMac('twl000000000001', attachment(1).podMac))
  all.kernel.listener(podMac('twlffffffffffff', '02:cc:00:00:00:03'))
  await all.clock.advance(100)
  assert.equal(all.learned, ['attachment2 02:cc:00:00:00:02'])
  await all.loop.stop()
})

test('a pod that changes its MAC all the time is learned ever more slowly, and the last one in the end', async () => {
  const all = await converged()
  const macOf = (n: number) => `02:cc:00:00:${hexOctet(n >> 8)}:${hexOctet(n & 255)}`
  for (let n = 0; n < 400; n++) {
    all.kernel.listener(podMac('twl000000000002', macOf(n)))
    await all.clock.advance(20)
  }
  assert.ok(all.learned.length < 20, `learned ${all.learned.length} times in 8 s`)
  await all.clock.advance(70_000)
  assert.is(all.learned.at(-1), `attachment2 ${macOf(399)}`)
  await all.loop.stop()
})

test('a MAC that is heard while another is being learned is not forgotten', async () => {
  const all = await converged()
  const [first, second] = [attachment(1), attachment(2)]
  all.facts = facts({ attachments: [first, { ...second, busy: true }] })
  all.kernel.listener(podMac(second.hostInterface, second.podMac))
  await all.clock.advance(500)
  assert.equal(all.learned, [])
  all.facts = facts({ attachments: [first, { ...second, podMac: '02:cc:00:00:00:02' }] })
  await all.clock.advance(500)
  assert.equal(all.learned, [`${second.id} ${second.podMac}`])
  await all.loop.stop()
})

const hexOctet = (value: number): string => value.toString(16).padStart(2, '0')

test('a MAC that could not be taken over is tried again', async () => {
  let failures = 2
  const taken: string[] = []
  const all = await converged({
    learnPodMac: async (_, mac) => {
      if (failures-- > 0) throw new Error('no')
      taken.push(mac)
    },
  })
  all.kernel.listener(podMac('twl000000000002', '02:cc:00:00:00:02'))
  await all.clock.advance(2_000)
  assert.equal(taken, ['02:cc:00:00:00:02'])
  await all.loop.stop()
})

test('a pod whose host end is gone is attached again, once at a time', async () => {
  let finish = () => {}
  const all = await converged({
    reattach: id =>
      new Promise(resolve => {
        all.reattached.push(id)
        finish = resolve
      }),
  })
  all.kernel.removeLink('twl000000000001')
  heard(all, 'link')
  await all.clock.advance(100)
  heard(all, 'link')
  await all.clock.advance(100)
  assert.equal(all.reattached, ['attachment1'])
  all.kernel.addLink(podLink(1))
  finish()
  await all.clock.advance(100)
  assert.equal(all.reattached, ['attachment1'])
  assert.ok(all.repairs.includes('pod missing'), 'a repair like any other')
  assert.ok(all.kernel.routes.has('10.244.1.1/32 0'))
  await all.loop.stop()
})

test('an attachment that appears while the kernel is being looked at is not taken for a leftover', async () => {
  const kernel = machine()
  const attachMeanwhile = { now: () => {} }
  const model = kernel.kernel()
  const readNeighbours = async () => {
    attachMeanwhile.now()
    return model.readNeighbours()
  }
  const all = rig(kernel, { kernel: { ...model, readNeighbours } })
  all.loop.start()
  await all.clock.advance(200)
  attachMeanwhile.now = () => {
    kernel.addLink(podLink(3))
    all.facts = facts({
      attachments: [...facts().attachments, attachment(3, { podMac: '02:aa:00:00:00:03' })],
    })
  }
  // Links are read before neighbours: the loop sees no link for an attachment that is there by the facts.
  heard(all, 'link')
  await all.clock.advance(100)
  assert.equal(all.reattached, [])
  assert.ok(kernel.links.has('twl000000000003'))
  await all.loop.stop()
})

test('nothing is deleted before the facts are complete, and what is ours and unknown goes then', async () => {
  const kernel = machine()
  kernel.addRoute(route('10.244.7.0/26', { type: 'blackhole' }))
  const all = rig(kernel)
  all.facts = facts({ known: false, complete: false, nodes: [], slots: new Map() })
  all.loop.start()
  await all.clock.advance(70_000)
  assert.ok(kernel.routes.has('10.244.7.0/26 0'))
  assert.is(kernel.ruleset, null)
  all.facts = facts()
  all.loop.markDirty('all')
  await all.clock.advance(100)
  assert.not(kernel.routes.has('10.244.7.0/26 0'))
  await all.loop.stop()
})

test('with facts of before the start: rules stand, what is missing comes, what the kernel has stays until the store has spoken', async () => {
  const all = await converged()
  const { kernel } = all
  await all.loop.stop()
  kernel.addRoute(route('10.244.7.0/26', { type: 'blackhole' }))
  const moved = kernel.routes.get('10.244.3.0/26 0')
  assert.ok(moved)
  kernel.routes.set('10.244.3.0/26 0', { ...moved, gateway: '10.244.2.0' })
  kernel.routes.delete('10.244.2.0/26 0')
  const next = rig(kernel)
  next.facts = facts({ complete: false })
  next.loop.start()
  await next.clock.advance(70_000)
  assert.ok(kernel.routes.has('10.244.2.0/26 0'), 'what is missing is put there')
  assert.is(kernel.routes.get('10.244.3.0/26 0')?.gateway, '10.244.2.0', 'and nothing replaced')
  assert.ok(kernel.routes.has('10.244.7.0/26 0'), 'or deleted')
  assert.equal([next.loop.report().rulesStanding, next.loop.report().converged], [true, true])
  next.facts = facts()
  next.loop.markDirty('all')
  await next.clock.advance(100)
  assert.is(kernel.routes.get('10.244.3.0/26 0')?.gateway, '10.244.3.0')
  assert.not(kernel.routes.has('10.244.7.0/26 0'))
  await next.loop.stop()
})

test('a step that fails is tried again by itself, and others are not held up', async () => {
  const all = await converged()
  all.kernel.fail = step => (step.type === 'fdb.replace' ? 'ENOMEM' : null)
  all.facts = facts({ nodes: [node(1), node(2, { underlay: { 4: '192.168.77.22' } }), node(3)] })
  all.kernel.routes.delete('10.244.3.0/26 0')
  all.loop.markDirty('all')
  await all.clock.advance(100)
  assert.ok(all.kernel.routes.has('10.244.3.0/26 0'))
  assert.equal(
    [...all.loop.report().failing.values()].map(({ message }) => message),
    ['ENOMEM'],
  )
  all.kernel.fail = () => null
  await all.clock.advance(1000)
  assert.ok([...all.kernel.fdb.values()].some(({ dst }) => dst === '192.168.77.22'))
  assert.is(all.loop.report().failing.size, 0)
  await all.loop.stop()
})

test('of a device that cannot be made it is said why, not that it is not there', async () => {
  const all = rig()
  all.kernel.fail = step => {
    if (step.type === 'vxlan.add') return 'EEXIST: a VXLAN device of that VNI exists'
    return step.type === 'link.set' && !all.kernel.links.has(step.device) ? 'ENODEV' : null
  }
  const begunMs = all.clock.boottimeMs()
  all.loop.start()
  await all.clock.advance(1_000)
  const failure = all.loop.report().failing.get('link twill-vx4')
  assert.is(failure?.message, 'EEXIST: a VXLAN device of that VNI exists')
  assert.ok((failure?.sinceMs ?? 0) - begunMs < 500, 'since the first try')
  const failures = all.failures.filter(kind => kind === 'link').length
  const tries = all.kernel.executed.filter(({ type }) => type === 'vxlan.add').length
  assert.is(failures, tries, 'one failure each')
  await all.loop.stop()
})

test('a program that insists is answered ever more seldom', async () => {
  const all = await converged()
  const fight = async (ms: number) => {
    const before = all.repairs.length
    for (let passed = 0; passed < ms; passed += 100) {
      if (all.kernel.routes.delete('10.244.2.0/26 0')) heard(all, 'route')
      await all.clock.advance(100)
    }
    return all.repairs.length - before
  }
  const early = await fight(2_000)
  assert.ok(early >= 8, `${early} repairs in the first seconds`)
  await fight(120_000)
  const late = await fight(120_000)
  assert.ok(late <= 3, `${late} repairs in two minutes`)
  await all.loop.stop()
})

test('quiet passes do nothing, and settled resolves', async () => {
  const all = await converged()
  const settled = all.loop.settled()
  await all.clock.advance(1000)
  await settled
  assert.equal(all.kernel.executed, [])
  await all.loop.stop()
})

test('after an overflow everything is looked at anew', async () => {
  const all = await converged()
  all.kernel.routes.delete('10.244.2.0/26 0')
  all.kernel.intact = false
  all.kernel.listener({ type: 'overflow' })
  await all.clock.advance(100)
  assert.ok(all.kernel.routes.has('10.244.2.0/26 0'))
  assert.ok(all.kernel.intact)
  await all.loop.stop()
})

test('a switch that became desired while the kernel was read is set, and is no repair', async () => {
  let now = facts({ pools: [pool('v4', '10.244.0.0/16')], attachments: [] })
  const kernel = machine()
  kernel.sysctls.set('net/ipv6/conf/all/forwarding', '0')
  const real = kernel.kernel()
  const all = rig(kernel, {
    facts: () => now,
    kernel: {
      ...real,
      readLinks: () => {
        now = facts({ attachments: [] })
        return real.readLinks()
      },
    },
  })
  all.loop.start()
  await all.clock.advance(3_000)
  assert.is(kernel.sysctls.get('net/ipv6/conf/all/forwarding'), '1')
  assert.equal(all.repairs, [])
})

test.run()
