/** What pods may send: each rule with real packets, with the rule and without it. */
import { writeFileSync } from 'node:fs'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { GATEWAY, HOST_MAC } from '../../kernel/ownership.ts'
import { arpRequest, ETHERTYPE, ethernet, icmp, ip, ipBytes, udp, vxlan } from '../fixtures/frames.ts'
import { run } from '../fixtures/netns-lab.ts'
import {
  arrives,
  bearing,
  COMES_MS,
  isEncapsulated,
  openBench,
  STAYS_AWAY_MS,
} from '../fixtures/rules-bench.ts'
import {
  encapsulated,
  fromPod,
  INPUT,
  innerFrame,
  NODE,
  PEER,
  POD,
  PORT,
  VNI,
} from '../fixtures/rules-lab.ts'

const { lab, packet, scenario } = openBench()

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

test('solicitations from many link-local sources do not fill the neighbour table', () => {
  lab.apply(INPUT)
  for (let n = 1; n <= 3000; n++)
    lab.a.send(fromPod('a', `fe80::a:${n.toString(16)}`, 'fe80::1', solicitation('fe80::1')))
  const entries = run('ip', '-6', 'neigh', 'show', 'dev', POD.a.device).split('\n')
  const learnt = entries.filter(line => line.startsWith('fe80::a:')).length
  assert.ok(learnt > 0 && learnt < 600, `${learnt} entries`)
  run('ip', '-6', 'neigh', 'flush', 'dev', POD.a.device, 'nud', 'stale')
  // What was answered has been taken out of the way of what comes next.
  lab.a.receive(Buffer.from('nothing'), STAYS_AWAY_MS)
})

const routeLocalnet = (value: string) =>
  writeFileSync(`/proc/sys/net/ipv4/conf/${POD.a.device}/route_localnet`, value)
/** ICMP echo to the node; its answer has type 0 behind the IPv4 header. */
const echoTo = (address: string) => () => {
  routeLocalnet('1')
  return packet(
    lab.a,
    payload => fromPod('a', POD.a.v4, address, payload),
    lab.a,
    frame => frame[34] === 0,
    mark => icmp(4, 8, Buffer.concat([Buffer.alloc(4), mark])),
  )
}

scenario("a pod does not reach its node's loopback, where route_localnet is set (CVE-2020-8558)", {
  pass: echoTo(NODE.v4),
  stop: echoTo('127.0.0.1'),
  without: ['127.0.0.0/8 counter drop'],
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

const LATE_DROP = `udp dport ${PORT} ip saddr @pools4 ip daddr @nodes4 counter drop`
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
