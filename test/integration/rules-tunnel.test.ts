/** What is taken from the tunnel: each rule with real packets, with the rule and without it. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ETHERTYPE, fragments, ip, udp, vxlan } from '../fixtures/frames.ts'
import { run } from '../fixtures/netns-lab.ts'
import { arrives, COMES_MS, isEncapsulated, openBench, STAYS_AWAY_MS } from '../fixtures/rules-bench.ts'
import {
  encapsulated,
  fromPod,
  fromUnderlay,
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

const { lab, packet, scenario } = openBench()

const fromTunnel = (outer: string, source: string, to: string) => () =>
  packet(lab.peer, payload => encapsulated(outer, source, to, payload), lab.a)
const NOT_KNOWN = ['not from a known node']

scenario('VXLAN comes from known nodes only', {
  pass: fromTunnel(PEER.v4, PEER.pod4, POD.a.v4),
  stop: fromTunnel('192.168.77.9', PEER.pod4, POD.a.v4),
  without: NOT_KNOWN,
})
scenario('VXLAN does not come from an address of the overlay itself', {
  pass: fromTunnel(PEER.v4, PEER.pod4, POD.a.v4),
  stop: fromTunnel(PEER.tunnel4, PEER.pod4, POD.a.v4),
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
  for (const way of ['fib daddr type local notrack', `udp dport ${PORT} ip daddr @nodes4 notrack`]) {
    lab.apply(INPUT, [way])
    bothWays()
    assert.ok(tracked(), `without ${way} they are`)
    run('conntrack', '-F')
  }
})

test.run()
