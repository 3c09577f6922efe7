import { test } from 'uvu'
import * as assert from 'uvu/assert'
import {
  forEachAttribute,
  readAttributes,
  readIp,
  readMac,
  readString,
} from '../../../../kernel/netlink/attributes.ts'
import { Datagram } from '../../../../kernel/netlink/datagram.ts'
import { forEachMessage, type NetlinkMessage } from '../../../../kernel/netlink/socket.ts'
import { parseIp } from '../../../../lib/address.ts'

function messagesOf(datagram: Datagram): NetlinkMessage[] {
  const messages: NetlinkMessage[] = []
  forEachMessage(datagram.bytes, datagram.length, message => messages.push(message))
  return messages
}

test('a message as it lies: header, fixed fields, an attribute padded to four octets', () => {
  const datagram = new Datagram(64).begin(16, 0x400).u8(1).u8(0).u16(2).attrString(3, 'abcd')
  assert.is(
    datagram.bytes.toString('hex', 0, datagram.length),
    '2000000010000104' + '0000000000000000' + '01000200' + '09000300' + '6162636400000000',
  )
})

test('padding is written, whatever was there before', () => {
  const datagram = new Datagram(64)
  datagram.bytes.fill(0xff)
  datagram.begin(1, 0).attrU8(5, 7)
  assert.is(datagram.bytes.toString('hex', 16, datagram.length), '0500050007000000')
})

test('what was written is read back, nested attributes too', () => {
  const datagram = new Datagram(512).begin(20, 0)
  datagram
    .attrU32(1, 0xfffffffe)
    .attrMac(2, '02:ab:00:00:00:01')
    .attrIp(3, parseIp('fd00::1'))
    .attrIp(4, parseIp('10.0.0.1'))
  datagram.nest(5).attrU16Be(6, 4789).nest(7).attrEmpty(8).end().end().attrU8(9, 1)
  const message = messagesOf(datagram)[0] as NetlinkMessage
  const found = readAttributes(message.bytes, message.start, message.end)
  assert.is(found.get(1)?.readUInt32LE(0), 0xfffffffe)
  assert.is(readMac(found.get(2) as Buffer), '02:ab:00:00:00:01')
  assert.equal(readIp(found.get(3) as Buffer), parseIp('fd00::1'))
  assert.equal(readIp(found.get(4) as Buffer), parseIp('10.0.0.1'))
  const nested = readAttributes(found.get(5) as Buffer)
  assert.is(nested.get(6)?.readUInt16BE(0), 4789)
  assert.equal([...readAttributes(nested.get(7) as Buffer).keys()], [8])
  assert.is(found.get(9)?.[0], 1)
})

test('several messages in a datagram keep their own lengths; rewind takes back the last', () => {
  const datagram = new Datagram(256).begin(1, 0).attrU32(1, 1)
  const mark = datagram.mark()
  datagram.begin(2, 0).nest(1).attrU32(2, 2)
  datagram.rewind(mark)
  datagram.begin(3, 0).attrU8(1, 1)
  assert.equal(
    messagesOf(datagram).map(({ type, start, end }) => [type, end - start]),
    [
      [1, 8],
      [3, 8],
    ],
  )
})

test('a datagram that is full says so, and a nest that was not opened too', () => {
  assert.throws(() => new Datagram(24).begin(1, 0).attrU32(1, 1).attrU32(2, 2), /datagram over 24/)
  assert.throws(() => new Datagram(24).begin(1, 0).end(), /no nested attribute/)
})

test('a malformed attribute ends the walk, a malformed message is refused', () => {
  const seen: number[] = []
  const bytes = Buffer.from('0800010001000000' + 'ff00020000000000', 'hex')
  forEachAttribute(bytes, 0, bytes.length, type => seen.push(type))
  assert.equal(seen, [1])
  assert.throws(() => forEachMessage(Buffer.alloc(16), 16, () => {}), /length 0/)
  assert.is(readString(Buffer.from('lo\0\0')), 'lo')
})

test.run()
