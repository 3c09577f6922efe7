/**
 * Each rule of the overlay with real packets: one that must pass, one that must not, and the same one again with
 * the rule taken out, so that it is seen to be this rule that stops it.
 */
import { writeFileSync } from 'node:fs'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { GATEWAY, HOST_MAC } from '../../kernel/ownership.ts'
import type { RulesInput } from '../../routing/vxlan/rules-input.ts'
import {
  arpRequest,
  ETHERTYPE,
  ethernet,
  fragments,
  icmp,
  ip,
  ipBytes,
  type Segment,
  sourceOf,
  tcp,
  udp,
  vxlan,
} from '../fixtures/frames.ts'
import { run, type Wire } from '../fixtures/netns-lab.ts'
import {
  buildLab,
  encapsulated,
  fromPod,
  fromUnderlay,
  INNER_IP,
  INPUT,
  innerFrame,
  NODE,
  OTHER,
  PEER,
  POD,
  PORT,
  STRANGER,
  VNI,
} from '../fixtures/rules-lab.ts'

const lab = buildLab()

/** Long enough for what comes; what must not come is waited for this long each time. */
const COMES_MS = 3000
const STAYS_AWAY_MS = 150

interface Packet {
  readonly send: () => void
  /** Where and as what it would arrive. */
  readonly at: Wire
  readonly as?: (frame: Buffer) => boolean
  readonly mark: Buffer
}

function marks(): () => Buffer {
  let count = 0
  return () => Buffer.from(`mark-${String(++count).padStart(6, '0')}-${process.pid}`)
}
const freshMark = marks()

function packet(
  from: Wire,
  frame: (payload: Segment) => Buffer,
  at: Wire,
  as?: (frame: Buffer) => boolean,
  segment: (mark: Buffer) => Segment = mark => udp(1234, 5678, mark),
): Packet {
  const mark = freshMark()
  return { send: () => from.send(frame(segment(mark))), at, mark, ...(as ? { as } : {}) }
}

function arrives({ send, at, mark, as }: Packet, waitMs: number): boolean {
  send()
  return at.receive(mark, waitMs, as) !== null
}

interface Scenario {
  readonly pass: () => Packet
  readonly stop: () => Packet
  /** Parts of the lines whose absence lets `stop` through. */
  readonly without: readonly string[]
  readonly input?: RulesInput
}

function scenario(name: string, { pass, stop, without, input = INPUT }: Scenario): void {
  test(name, () => {
    lab.apply(input)
    // Flows keep the translation they began with.
    run('conntrack', '-F')
    assert.ok(arrives(pass(), COMES_MS), 'what is allowed arrives')
    assert.not.ok(arrives(stop(), STAYS_AWAY_MS), 'what is forbidden does not')
    lab.apply(input, without)
    run('conntrack', '-F')
    assert.ok(arrives(stop(), COMES_MS), `without ${without.join(', ')} it would`)
  })
}

const bearing = (source: string, at?: number) => (frame: Buffer) =>
  sourceOf(frame, at) ===
  sourceOf(Buffer.concat([Buffer.alloc(14), ip(source, source, udp(1, 1, Buffer.alloc(0)))]))
const isEncapsulated = (frame: Buffer) => frame.length > INNER_IP && frame.readUInt16BE(36) === PORT

// ---------------------------------------------------------------- what pods may send

const NO_SPOOF_GUARD = 'not from this pod'

for (const [family, own, others, to] of [
  ['IPv4', POD.a.v4, '10.244.1.77', POD.b.v4],
  ['IPv6', POD.a.v6, 'fd00:10::1:77', POD.b.v6],
] as const) {
  scenario(`a pod sends from its own ${family} address only`, {
    pass: () => packet(lab.a, payload => fromPod('a', own, to, payload), lab.b),
    stop: () => packet(lab.a, payload => fromPod('a', others, to, payload), lab.b),
    without: [NO_SPOOF_GUARD],
  })
  scenario(`a pod sends from its own MAC only, ${family}`, {
    pass: () => packet(lab.a, payload => fromPod('a', own, to, payload), lab.b),
    stop: () => packet(lab.a, payload => fromPod('a', own, to, payload, '02:00:00:00:0a:99'), lab.b),
    without: [NO_SPOOF_GUARD],
  })
}

scenario("a pod's neighbour may not send with its address", {
  pass: () => packet(lab.b, payload => fromPod('b', POD.b.v4, POD.a.v4, payload), lab.a),
  stop: () => packet(lab.b, payload => fromPod('b', POD.a.v4, PEER.pod4, payload), lab.peer, isEncapsulated),
  without: [NO_SPOOF_GUARD],
})

/** RFC 4861 section 4.3, with the source link-layer address option. */
const solicitation = (target: string) =>
  icmp(
    6,
    135,
    Buffer.concat([
      Buffer.alloc(4),
      ipBytes(target),
      Buffer.from([1, 1]),
      Buffer.from('020000000a01', 'hex'),
    ]),
  )

/** An answer of the node: an advertisement for fe80::1, or the echo of what was sent. */
const fromGateway = (type: number) => (frame: Buffer) => frame[54] === type && bearing('fe80::1')(frame)

scenario('a link-local source is for neighbour discovery', {
  pass: () => ({
    send: () => lab.a.send(fromPod('a', 'fe80::a', 'fe80::1', solicitation('fe80::1'))),
    at: lab.a,
    mark: ipBytes('fe80::1'),
    as: fromGateway(136),
  }),
  stop: () =>
    packet(
      lab.a,
      payload => fromPod('a', 'fe80::a', 'fe80::1', payload),
      lab.a,
      fromGateway(129),
      mark => icmp(6, 128, mark),
    ),
  without: [NO_SPOOF_GUARD],
})

/** RFC 4861 section 4.2: hop limit 64, router lifetime 1800 s. */
const advertisement = () => icmp(6, 134, Buffer.from([64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0]))
const learned = () => run('ip', '-6', 'route', 'show', 'default', 'dev', POD.a.device).trim() !== ''

test("a pod's router advertisements are dropped", () => {
  writeFileSync(`/proc/sys/net/ipv6/conf/${POD.a.device}/accept_ra`, '2')
  for (const source of ['fe80::a', 'fe80::b']) {
    lab.apply(INPUT)
    lab.a.send(fromPod('a', source, 'ff02::1', advertisement()))
    // What came after it has arrived, so it was judged.
    assert.ok(
      arrives(
        packet(lab.a, payload => fromPod('a', POD.a.v4, POD.b.v4, payload), lab.b),
        COMES_MS,
      ),
    )
    assert.not.ok(learned(), `the node took a router advertisement from ${source}`)
  }
  lab.apply(INPUT, ['nd-router-advert', NO_SPOOF_GUARD])
  lab.a.send(fromPod('a', 'fe80::a', 'ff02::1', advertisement()))
  const end = performance.now() + COMES_MS
  while (!learned() && performance.now() < end);
  assert.ok(learned(), 'without the rule it does')
  run('ip', '-6', 'route', 'flush', 'default', 'dev', POD.a.device)
  writeFileSync(`/proc/sys/net/ipv6/conf/${POD.a.device}/accept_ra`, '0')
})

const LATE_DROP = `udp dport ${PORT} counter drop`
const REMOTE_PORT = (port: number) => (mark: Buffer) => udp(1234, port, mark)

scenario("pods cannot send to nodes' VXLAN port", {
  pass: () =>
    packet(
      lab.a,
      payload => fromPod('a', POD.a.v4, PEER.v4, payload),
      lab.peer,
      bearing(NODE.v4),
      REMOTE_PORT(PORT + 1),
    ),
  stop: () =>
    packet(
      lab.a,
      payload => fromPod('a', POD.a.v4, PEER.v4, payload),
      lab.peer,
      undefined,
      REMOTE_PORT(PORT),
    ),
  without: [LATE_DROP],
})

test('nor by a service that leads there', () => {
  run(
    'nft',
    'add table ip service; add chain ip service pre { type nat hook prerouting priority dstnat; }; ' +
      `add rule ip service pre ip daddr 10.96.0.1 udp dport 5678 dnat to ${PEER.v4}:${PORT}; ` +
      `add rule ip service pre ip daddr 10.96.0.2 udp dport 5678 dnat to ${PEER.v4}:${PORT + 1}`,
  )
  const to = (address: string) => packet(lab.a, payload => fromPod('a', POD.a.v4, address, payload), lab.peer)
  lab.apply(INPUT)
  assert.ok(arrives(to('10.96.0.2'), COMES_MS))
  assert.not.ok(arrives(to('10.96.0.1'), STAYS_AWAY_MS))
  lab.apply(INPUT, [LATE_DROP])
  run('conntrack', '-F')
  assert.ok(arrives(to('10.96.0.1'), COMES_MS))
  run('nft', 'delete table ip service')
})

scenario('nor to the VXLAN port of its own node', {
  pass: () => packet(lab.peer, payload => encapsulated(PEER.v4, PEER.pod4, POD.b.v4, payload), lab.b),
  stop: () =>
    packet(
      lab.a,
      inner => {
        const frame = innerFrame(ETHERTYPE.ipv4, ip(PEER.pod4, POD.b.v4, inner))
        return fromPod('a', POD.a.v4, NODE.v4, udp(40000, PORT, vxlan(VNI, frame)))
      },
      lab.b,
    ),
  without: ['not from a known node'],
})

// ---------------------------------------------------------------- what is taken from the tunnel

const fromTunnel = (outer: string, source: string, to: string) => () =>
  packet(lab.peer, payload => encapsulated(outer, source, to, payload), lab.a)
const NOT_KNOWN = ['not from a known node']

scenario('VXLAN comes from known nodes only', {
  pass: fromTunnel(PEER.v4, PEER.pod4, POD.a.v4),
  stop: fromTunnel('192.168.77.9', PEER.pod4, POD.a.v4),
  without: NOT_KNOWN,
})
scenario('VXLAN carries only inner sources that live at the sender', {
  pass: fromTunnel(PEER.v4, PEER.tunnel4, POD.a.v4),
  stop: fromTunnel(PEER.v4, OTHER.pod4, POD.a.v4),
  without: NOT_KNOWN,
})
scenario('VXLAN carries no sources from outside the pools', {
  pass: fromTunnel(PEER.v4, PEER.pod4, POD.a.v4),
  stop: fromTunnel(PEER.v4, STRANGER.v4, POD.a.v4),
  without: NOT_KNOWN,
})
scenario('VXLAN carries only IPv6 inner sources that live at the sender', {
  pass: fromTunnel(PEER.v4, PEER.pod6, POD.a.v6),
  stop: fromTunnel(PEER.v4, 'fd00:10::3:5', POD.a.v6),
  without: NOT_KNOWN,
})
scenario('a VLAN tag does not hide the inner source', {
  pass: fromTunnel(PEER.v4, PEER.pod4, POD.a.v4),
  stop: () =>
    packet(
      lab.peer,
      payload => {
        const tagged = Buffer.concat([Buffer.from([0, 0, 0x08, 0x00]), ip(OTHER.pod4, POD.a.v4, payload)])
        return fromUnderlay(
          PEER.v4,
          NODE.v4,
          udp(40000, PORT, vxlan(VNI, innerFrame(ETHERTYPE.vlan, tagged))),
        )
      },
      lab.a,
    ),
  without: NOT_KNOWN,
})
scenario("an overlay's addresses do not come by the underlay", {
  pass: () => packet(lab.peer, payload => fromUnderlay(STRANGER.v4, POD.a.v4, payload), lab.a),
  stop: () => packet(lab.peer, payload => fromUnderlay(PEER.pod4, POD.a.v4, payload), lab.a),
  without: ['ip saddr @overlay4 counter drop'],
})
scenario("an overlay's IPv6 addresses do not come by the underlay", {
  pass: () => packet(lab.peer, payload => fromUnderlay(STRANGER.v6, POD.a.v6, payload), lab.a),
  stop: () => packet(lab.peer, payload => fromUnderlay(PEER.pod6, POD.a.v6, payload), lab.a),
  without: ['ip6 saddr @overlay6 counter drop'],
})

for (const [who, outer, comes] of [
  ['a known node', PEER.v4, true],
  ['anybody else', '192.168.77.9', false],
] as const)
  test(`fragments of outer packets are judged as a whole: from ${who}`, () => {
    lab.apply(INPUT)
    const pieces = packet(lab.peer, payload => encapsulated(outer, PEER.pod4, POD.a.v4, payload), lab.a)
    const whole = encapsulated(outer, PEER.pod4, POD.a.v4, udp(1234, 5678, pieces.mark))
    // The inner addresses are split from the outer header.
    const send = () => {
      for (const piece of fragments(whole.subarray(14), 24))
        lab.peer.send(Buffer.concat([whole.subarray(0, 14), piece]))
    }
    assert.is(arrives({ ...pieces, send }, comes ? COMES_MS : STAYS_AWAY_MS), comes)
  })

test('outer packets are not tracked, either way', () => {
  const tracked = () => run('conntrack', '-L', '-p', 'udp', '--dport', String(PORT)).includes('dport')
  const bothWays = () => {
    assert.ok(arrives(fromTunnel(PEER.v4, PEER.pod4, POD.a.v4)(), COMES_MS))
    const out = packet(lab.a, payload => fromPod('a', POD.a.v4, PEER.pod4, payload), lab.peer, isEncapsulated)
    assert.ok(arrives(out, COMES_MS))
  }
  lab.apply(INPUT)
  run('conntrack', '-F')
  bothWays()
  assert.not.ok(tracked())
  for (const way of ['fib daddr type local notrack', `@nodes4 udp dport ${PORT} notrack`]) {
    lab.apply(INPUT, [way])
    bothWays()
    assert.ok(tracked(), `without ${way} they are`)
    run('conntrack', '-F')
  }
})

// ---------------------------------------------------------------- whose address a packet bears

const outwards = (source: string, to: string, as: (frame: Buffer) => boolean) => () =>
  packet(lab.a, payload => fromPod('a', source, to, payload), lab.peer, as)

scenario('natOutgoing masquerades what leaves the pools, and nothing leaves as it was', {
  pass: outwards(POD.a.v4, STRANGER.v4, bearing(NODE.v4)),
  stop: outwards(POD.a.v4, STRANGER.v4, bearing(POD.a.v4)),
  without: [
    'ip saddr @nat4 ip daddr != @pools4 ip daddr != @nodes4 masquerade',
    'ip saddr @nat4 ip daddr != @pools4 ip daddr != @nodes4 goto leak',
  ],
})
scenario('natOutgoing off leaves the address, but not towards nodes', {
  pass: outwards(POD.a.v6, STRANGER.v6, bearing(POD.a.v6)),
  stop: outwards(POD.a.v6, PEER.v6, bearing(POD.a.v6)),
  without: ['ip6 saddr @overlay6 ip6 daddr @nodes6'],
})
scenario('natOutgoing off: a node sees the node', {
  pass: outwards(POD.a.v6, PEER.v6, bearing(NODE.v6)),
  stop: outwards(POD.a.v6, PEER.v6, bearing(POD.a.v6)),
  without: ['ip6 saddr @overlay6 ip6 daddr @nodes6'],
})
test('pods see pods, also on another node', () => {
  lab.apply(INPUT)
  const there = outwards(
    POD.a.v4,
    PEER.pod4,
    frame => isEncapsulated(frame) && bearing(POD.a.v4, INNER_IP)(frame),
  )
  assert.ok(arrives(there(), COMES_MS))
  const here = packet(lab.a, payload => fromPod('a', POD.a.v4, POD.b.v4, payload), lab.b, bearing(POD.a.v4))
  assert.ok(arrives(here, COMES_MS))
})

/** SYN and FIN together: conntrack calls that invalid, and does not translate it. */
const invalid = (mark: Buffer) => tcp(1234, 80, 0x03, mark)

scenario("what conntrack calls invalid does not leave under a pod's address", {
  pass: () =>
    packet(
      lab.a,
      payload => fromPod('a', POD.a.v4, STRANGER.v4, payload),
      lab.peer,
      bearing(NODE.v4),
      mark => tcp(1234, 80, 0x02, mark),
    ),
  stop: () =>
    packet(lab.a, payload => fromPod('a', POD.a.v4, STRANGER.v4, payload), lab.peer, undefined, invalid),
  without: ['not masqueraded'],
})

test('an answer to whoever reached the pod by its own address keeps it', () => {
  lab.apply(INPUT)
  run('conntrack', '-F')
  const there = packet(lab.peer, payload => fromUnderlay(STRANGER.v4, POD.a.v4, payload), lab.a)
  const answer = (mark: Buffer) => udp(5678, 1234, mark)
  const back = () =>
    packet(
      lab.a,
      payload => fromPod('a', POD.a.v4, STRANGER.v4, payload),
      lab.peer,
      bearing(POD.a.v4),
      answer,
    )
  assert.ok(arrives(there, COMES_MS))
  assert.ok(arrives(back(), COMES_MS))
  lab.apply(INPUT, ['ct direction reply accept'])
  assert.not.ok(arrives(back(), STAYS_AWAY_MS))
})

test('a pod reaches its own node under its own address', () => {
  lab.apply(INPUT)
  const echo = packet(
    lab.a,
    payload => fromPod('a', POD.a.v4, NODE.v4, payload),
    lab.a,
    frame => bearing(NODE.v4)(frame) && frame.subarray(30, 34).equals(ipBytes(POD.a.v4)),
    mark => icmp(4, 8, mark),
  )
  assert.ok(arrives(echo, COMES_MS))
})

scenario('what enters the tunnel from outside the pools bears our tunnel address', {
  pass: () =>
    packet(
      lab.peer,
      payload => fromUnderlay(STRANGER.v4, PEER.pod4, payload),
      lab.peer,
      frame => isEncapsulated(frame) && bearing(NODE.tunnel4, INNER_IP)(frame),
    ),
  stop: () =>
    packet(
      lab.peer,
      payload => fromUnderlay(STRANGER.v4, PEER.pod4, payload),
      lab.peer,
      frame => isEncapsulated(frame) && bearing(STRANGER.v4, INNER_IP)(frame),
    ),
  without: ['ip saddr != @pools4 snat'],
})

// ---------------------------------------------------------------- what others ask to be masqueraded

test("what kube-proxy masquerades to our own pods gets the node's address, and marks stay", () => {
  run(
    'nft',
    'add table ip proxy; add chain ip proxy asked { type filter hook forward priority filter; }; ' +
      `add rule ip proxy asked ip saddr ${STRANGER.v4} meta mark set mark or 0x4000; ` +
      'add chain ip proxy post { type nat hook postrouting priority srcnat; }; ' +
      'add rule ip proxy post meta mark and 0x4000 == 0x4000 masquerade; ' +
      'add chain ip proxy after { type filter hook postrouting priority 400; }; ' +
      'add rule ip proxy after meta mark and 0x4000 == 0x4000 counter',
  )
  const asked = (as: string) =>
    packet(lab.peer, payload => fromUnderlay(STRANGER.v4, POD.a.v4, payload), lab.a, bearing(as))
  lab.apply(INPUT)
  run('conntrack', '-F')
  assert.ok(arrives(asked(NODE.v4), COMES_MS))
  assert.match(run('nft', 'list chain ip proxy after'), /counter packets [1-9]/)
  lab.apply(INPUT, ['meta mark & 0x6000'])
  run('conntrack', '-F')
  assert.not.ok(
    arrives(asked(NODE.v4), STAYS_AWAY_MS),
    'without our rule it is not the node that the pod sees',
  )
  run('nft', 'delete table ip proxy')
})

test('a pod that reaches itself by a service sees the node', () => {
  run(
    'nft',
    'add table ip service; add chain ip service pre { type nat hook prerouting priority dstnat; }; ' +
      `add rule ip service pre ip daddr 10.96.0.3 dnat to ${POD.a.v4}`,
  )
  const hairpin = () =>
    packet(lab.a, payload => fromPod('a', POD.a.v4, '10.96.0.3', payload), lab.a, bearing(NODE.v4))
  run('conntrack', '-F')
  lab.apply(INPUT)
  assert.ok(arrives(hairpin(), COMES_MS))
  lab.apply(INPUT, ['@hairpins4 snat'])
  run('conntrack', '-F')
  assert.not.ok(arrives(hairpin(), STAYS_AWAY_MS))
  run('nft', 'delete table ip service')
})

// ---------------------------------------------------------------- beside the table

test('a new process replaces the table without a flow noticing', () => {
  lab.apply(INPUT)
  run('conntrack', '-F')
  const mark = freshMark()
  lab.a.send(fromPod('a', POD.a.v4, STRANGER.v4, udp(1234, 5678, mark)))
  const out = lab.peer.receive(mark, COMES_MS, bearing(NODE.v4))
  assert.ok(out)
  lab.applyAsNewProcess({ ...INPUT, endpoints: [...INPUT.endpoints].reverse() })
  const translated = out.readUInt16BE(34)
  const answer = (payload: Buffer) => udp(5678, translated, payload)
  const back = packet(
    lab.peer,
    payload => fromUnderlay(STRANGER.v4, NODE.v4, payload),
    lab.a,
    bearing(STRANGER.v4),
    answer,
  )
  assert.ok(arrives(back, COMES_MS))
})

test('what a pod claims by ARP the node does not learn, with rp_filter on', () => {
  lab.apply(INPUT)
  run('ip', 'addr', 'add', `${GATEWAY[4]}/32`, 'dev', 'lo', 'scope', 'link')
  const rpFilter = (value: string) =>
    writeFileSync(`/proc/sys/net/ipv4/conf/${POD.a.device}/rp_filter`, value)
  const claim = (sender: string) =>
    lab.a.send(ethernet(POD.a.mac, HOST_MAC, ETHERTYPE.arp, arpRequest(POD.a.mac, sender, GATEWAY[4])))
  const answered = (waitMs: number) => lab.a.receive(ipBytes(GATEWAY[4]), waitMs) !== null
  const learnedOf = (sender: string) =>
    run('ip', 'neigh', 'show', sender, 'dev', POD.a.device).includes('lladdr')
  rpFilter('1')
  claim(POD.a.v4)
  assert.ok(answered(COMES_MS))
  claim(POD.b.v4)
  assert.not.ok(answered(STAYS_AWAY_MS))
  assert.not.ok(learnedOf(POD.b.v4))
  rpFilter('0')
  claim(POD.b.v4)
  assert.ok(answered(COMES_MS))
  assert.ok(learnedOf(POD.b.v4), 'without it, it does, on that interface')
})

test.run()
