import { test } from 'uvu'
import * as assert from 'uvu/assert'
import {
  decodeLink,
  encodeLinkDeletion,
  encodeLinkDump,
  isOfAttachment,
  splitMessages,
} from '../../../cni-bin/pod-link.ts'

const hex = (bytes: Buffer): string => bytes.toString('hex')
const joined = (...parts: string[]): string => parts.join('')

test('RTM_GETLINK, as ip -d link sends it: dump of all families', () => {
  assert.is(
    hex(encodeLinkDump()),
    joined('20000000', '1200', '0103', '00000000', '00000000', '00000000'.repeat(4)),
  )
})

test('RTM_DELLINK of one index, acknowledged', () => {
  assert.is(
    hex(encodeLinkDeletion(258)),
    joined('20000000', '1100', '0500', '00000000'.repeat(3), '02010000', '00000000'.repeat(2)),
  )
})

/** nlmsghdr of RTM_NEWLINK, ifinfomsg of index 5, IFLA_IFNAME "twl0", IFLA_IFALIAS "twill:pod:ab". */
const link = Buffer.from(
  '40000000' +
    '1000' +
    '0200' +
    '00000000' +
    '00000000' +
    '00000100' +
    '05000000' +
    '00000000' +
    '00000000' +
    '0900' +
    '0300' +
    '74776c3000' +
    '000000' +
    '1100' +
    '1400' +
    '7477696c6c3a706f643a616200' +
    '000000',
  'hex',
)

test('a link with name and alias', () => {
  assert.equal(decodeLink(link), [{ index: 5, name: 'twl0', alias: 'twill:pod:ab' }])
})

test('other messages are no links, and a cut datagram ends the walk', () => {
  const done = Buffer.from('10000000030002000000000000000000', 'hex')
  assert.equal(decodeLink(done), [])
  assert.is(splitMessages(Buffer.concat([link, done])).length, 2)
  assert.is(splitMessages(Buffer.concat([link, done.subarray(0, 12)])).length, 1)
  assert.is(splitMessages(Buffer.alloc(32)).length, 0)
})

test("CNI-137: a link is this attachment's by name and by its whole alias", () => {
  const own = { index: 1, name: 'twl0', alias: 'twill:pod:ab' }
  assert.ok(isOfAttachment(own, 'ab'))
  for (const other of [
    { alias: 'twill:pod:abc' },
    { alias: 'twill:pod:a' },
    { alias: null },
    { name: 'eth0' },
  ])
    assert.not(isOfAttachment({ ...own, ...other }, 'ab'))
})

test.run()
