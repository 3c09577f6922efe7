/** Decoding of what we write, and of what another codec (package netlink) writes. */
import { formatLinkMessage, formatRouteMessage } from 'netlink/dist/rt/structs.js'
import { AttrStream } from 'netlink/dist/structs.js'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { Datagram } from '../../../../kernel/netlink/datagram.ts'
import { linkOf, readLink, writeAddVxlan } from '../../../../kernel/netlink/links.ts'
import { readNeighbour, writeNeighbour } from '../../../../kernel/netlink/neighbours.ts'
import { readRoute, writeRoute } from '../../../../kernel/netlink/routes.ts'
import { forEachMessage, type NetlinkMessage } from '../../../../kernel/netlink/socket.ts'
import { parseCidr, parseIp } from '../../../../lib/address.ts'

const nameOf = (index: number) => (index === 7 ? 'eth0' : null)

function only(datagram: Datagram): NetlinkMessage {
  let found: NetlinkMessage | null = null
  forEachMessage(datagram.bytes, datagram.length, message => {
    found = message
  })
  return found as unknown as NetlinkMessage
}

function messageOf(stream: AttrStream): NetlinkMessage {
  const bytes = Buffer.concat(stream.bufs)
  return { type: 16, flags: 0, sequence: 0, port: 0, bytes, start: 0, end: bytes.length }
}

test('a route reads as it was written, all attributes', () => {
  const route = {
    dst: parseCidr('fd00:1::/64'),
    type: 1,
    scope: 0,
    protocol: 84,
    index: 7,
    gateway: parseIp('fe80::1'),
    src: parseIp('fd00::9'),
    metric: 77,
    onlink: true,
    mtu: 1400,
  }
  assert.equal(readRoute(only(writeRoute(new Datagram(256), 24, 0, route)), nameOf), {
    family: 6,
    dst: 'fd00:1::/64',
    type: 'unicast',
    device: 'eth0',
    gateway: 'fe80::1',
    src: 'fd00::9',
    metric: 77,
    protocol: 84,
    table: 254,
    scope: 0,
    onlink: true,
    mtu: 1400,
  })
})

test('a default route has no destination in the message; a table over 255 is in its attribute', () => {
  const stream = new AttrStream()
  formatRouteMessage(
    {
      kind: 'route',
      data: { family: 2, dstLen: 0, table: 252, type: 1 },
      attrs: { table: 1000, oif: 7 },
    } as never,
    stream,
  )
  const route = readRoute(messageOf(stream), nameOf)
  assert.equal([route?.dst, route?.table, route?.device], ['0.0.0.0/0', 1000, 'eth0'])
})

test('a permanent neighbour reads back; the entries that the kernel keeps for multicast are left out', () => {
  const entry = { index: 7, address: parseIp('10.0.0.2'), mac: '02:00:00:00:00:02' }
  const datagram = writeNeighbour(new Datagram(128), 28, 0, entry)
  assert.equal(readNeighbour(only(datagram), nameOf), {
    device: 'eth0',
    family: 4,
    address: '10.0.0.2',
    mac: '02:00:00:00:00:02',
    permanent: true,
  })
  datagram.bytes.writeUInt16LE(0x40, 16 + 8)
  assert.is(readNeighbour(only(datagram), nameOf), null)
})

test('a VXLAN device reads as it was written, over IPv4 and IPv6', () => {
  for (const local of ['192.0.2.1', '2001:db8::1']) {
    const vxlan = { vni: 84, port: 4789, local, underlay: 'eth0', learning: false }
    const step = {
      type: 'vxlan.add',
      name: 'twill-vx4',
      mac: '02:00:00:00:00:01',
      mtu: 1450,
      alias: 'a',
      vxlan,
    } as const
    const link = linkOf(readLink(only(writeAddVxlan(new Datagram(512), step, 7))), nameOf)
    assert.equal(link.vxlan, vxlan)
    assert.equal(
      [link.name, link.kind, link.mac, link.mtu],
      ['twill-vx4', 'vxlan', '02:00:00:00:00:01', 1450],
    )
  }
})

test('a link written by another codec is understood, with attributes that are none of ours', () => {
  const stream = new AttrStream()
  const attrs = {
    ifname: 'twl1',
    address: Buffer.from('025457494c4c', 'hex'),
    mtu: 1450,
    txqlen: 1000,
    qdisc: 'noqueue',
    ifalias: 'twill:pod:1',
    group: 5527372,
    link: Buffer.from([3, 0, 0, 0]),
    linkNetnsid: 4,
  }
  formatLinkMessage({ kind: 'link', data: { index: 9, flags: { up: true } }, attrs } as never, stream)
  const link = readLink(messageOf(stream))
  assert.equal(
    [link.index, link.name, link.mac, link.up, link.alias, link.group, link.peerIndex, link.peerNetnsId],
    [9, 'twl1', '02:54:57:49:4c:4c', true, 'twill:pod:1', 5527372, 3, 4],
  )
})

test.run()
