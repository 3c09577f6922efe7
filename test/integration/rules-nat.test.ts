/** Whose address a packet bears when it leaves: each rule with real packets, with the rule and without it. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type { RulePool } from '../../routing/vxlan/rules-input.ts'
import { icmp, ipBytes, tcp, udp } from '../fixtures/frames.ts'
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
  EXCLUDED,
  fromPod,
  fromUnderlay,
  INNER_IP,
  INPUT,
  NODE,
  PEER,
  POD,
  STRANGER,
} from '../fixtures/rules-lab.ts'

const { lab, freshMark, packet, scenario } = openBench()

const OUTSIDE = 'ip daddr != @pools4 ip daddr != @nodes4 ip saddr . ip daddr != @nat_excluded4'

const outwards = (source: string, to: string, as: (frame: Buffer) => boolean) => () =>
  packet(lab.a, payload => fromPod('a', source, to, payload), lab.peer, as)

scenario('natOutgoing masquerades what leaves the pools, and nothing leaves as it was', {
  pass: outwards(POD.a.v4, STRANGER.v4, bearing(NODE.v4)),
  stop: outwards(POD.a.v4, STRANGER.v4, bearing(POD.a.v4)),
  without: [`ip saddr @nat4 ${OUTSIDE} masquerade`, `ip saddr @nat4 ${OUTSIDE} goto leak`],
})
test('to what is excluded from natOutgoing a pod goes under its own address, and is answered there; nobody else is', () => {
  const toExcluded = (as: string) => outwards(POD.a.v4, EXCLUDED.v4, bearing(as))()
  const applied = (natExclusions: string[], changes: Partial<RulePool> = {}) => {
    const pools = INPUT.pools.map(pool => ({ ...pool, natExclusions, ...changes }))
    lab.apply({ ...INPUT, pools })
    run('conntrack', '-F')
  }
  lab.apply(INPUT)
  run('conntrack', '-F')
  assert.ok(arrives(toExcluded(POD.a.v4), COMES_MS))
  const answer = packet(lab.peer, payload => fromUnderlay(EXCLUDED.v4, POD.a.v4, payload), lab.a)
  assert.ok(arrives(answer, COMES_MS))
  assert.ok(arrives(outwards(POD.a.v4, STRANGER.v4, bearing(NODE.v4))(), COMES_MS))
  applied([])
  assert.ok(arrives(toExcluded(NODE.v4), COMES_MS))
  applied([`${EXCLUDED.v4}/32`, '203.0.113.10/32', '198.51.100.0/29'])
  assert.ok(arrives(toExcluded(POD.a.v4), COMES_MS))
  assert.ok(arrives(outwards(POD.a.v4, STRANGER.v4, bearing(NODE.v4))(), COMES_MS))
})

test('the exclusions of one pool are none of another, and nodes see the node all the same', () => {
  const [v4, v6] = INPUT.pools as [RulePool, RulePool]
  const halves = [
    { ...v4, cidr: '10.244.0.0/17', natExclusions: [] },
    { ...v4, cidr: '10.244.128.0/17', natExclusions: ['0.0.0.0/0'] },
  ]
  lab.apply({ ...INPUT, pools: [...halves, v6] })
  run('conntrack', '-F')
  assert.ok(arrives(outwards(POD.a.v4, EXCLUDED.v4, bearing(NODE.v4))(), COMES_MS))
  const nat6 = { ...v6, natOutgoing: true, natExclusions: ['2001:db8:9::/48'] }
  lab.apply({ ...INPUT, pools: [{ ...v4, natExclusions: ['0.0.0.0/0'] }, nat6] })
  run('conntrack', '-F')
  assert.ok(arrives(outwards(POD.a.v4, STRANGER.v4, bearing(POD.a.v4))(), COMES_MS))
  assert.ok(arrives(outwards(POD.a.v4, PEER.v4, bearing(NODE.v4))(), COMES_MS))
  assert.ok(arrives(outwards(POD.a.v6, STRANGER.v6, bearing(POD.a.v6))(), COMES_MS))
  assert.ok(arrives(outwards(POD.a.v6, '2001:db8:8::9', bearing(NODE.v6))(), COMES_MS))
})

test('pools that collide in the store do not keep the table from standing', () => {
  const [v4] = INPUT.pools as [RulePool]
  const inside = { ...v4, cidr: '10.244.0.0/17', natExclusions: [EXCLUDED.prefix, '198.51.100.0/25'] }
  lab.apply({ ...INPUT, pools: [...INPUT.pools, inside, v4] })
  run('conntrack', '-F')
  assert.ok(arrives(outwards(POD.a.v4, EXCLUDED.v4, bearing(POD.a.v4))(), COMES_MS))
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

test.run()
