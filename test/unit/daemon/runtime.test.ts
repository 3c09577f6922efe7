/** What a runtime answers, as bytes; the containerd tests hold the same code to a real one. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { addressesIn, KNOWN_SOCKETS, runtimeSocket, sandboxOf } from '../../../daemon/runtime/cri.ts'
import { decodeMessage, encodeText, messageFields } from '../../../daemon/runtime/wire.ts'

const bytes = (...parts: (number | Uint8Array)[]) =>
  Buffer.concat(parts.map(part => (typeof part === 'number' ? Buffer.of(part) : part)))
/** Field of type 2. */
const field = (number: number, content: Uint8Array) => bytes(number * 8 + 2, content.length, content)
const text = (number: number, value: string) => field(number, Buffer.from(value))

test('a sandbox among fields that nobody asked for', () => {
  const metadata = bytes(text(1, 'web'), text(2, 'uid'), text(3, 'default'), 0x20, 1)
  const sandbox = bytes(
    text(1, 'c1'),
    field(2, metadata),
    bytes(0x18, 1),
    bytes(0x20, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x17),
    bytes(0x49, 1, 2, 3, 4, 5, 6, 7, 8),
    bytes(0x55, 1, 2, 3, 4),
  )
  const [found] = messageFields(decodeMessage(field(1, sandbox)), 1)
  assert.equal(found && sandboxOf(found), {
    id: 'c1',
    pod: { namespace: 'default', name: 'web' },
    ready: false,
  })
})

test('no state means ready, as protobuf leaves out zeros', () => {
  assert.is(sandboxOf(decodeMessage(text(1, 'c1'))).ready, true)
})

test('addresses: the first and the others; none on the network of the node', () => {
  const network = bytes(text(1, '10.0.0.1'), field(2, text(1, 'fd00::1')))
  assert.equal(addressesIn(decodeMessage(field(1, field(5, network)))), ['10.0.0.1', 'fd00::1'])
  assert.equal(addressesIn(decodeMessage(field(1, text(1, 'c1')))), [])
})

test('a request of one text, also a long one', () => {
  for (const id of ['c1', 'x'.repeat(127), 'x'.repeat(128), 'x'.repeat(5000)]) {
    const [found] = decodeMessage(encodeText(1, id)).get(1) ?? []
    assert.is(Buffer.from(found as Uint8Array).toString(), id)
  }
})

for (const [what, broken] of [
  ['cut short', bytes(0x0a, 5, 1)],
  ['of an unknown type', bytes(0x0b, 1)],
  ['a varint without end', Buffer.alloc(12, 0xff)],
] as const)
  test(`refused: ${what}`, () => {
    assert.throws(() => decodeMessage(broken), /protobuf/)
  })

test('which runtime: the configured one, none, or the first known one that is there', () => {
  const [first, second] = KNOWN_SOCKETS
  assert.is(
    runtimeSocket('/run/x.sock', () => false),
    '/run/x.sock',
  )
  assert.is(
    runtimeSocket('none', () => true),
    null,
  )
  assert.is(
    runtimeSocket(null, () => true),
    first,
  )
  assert.is(
    runtimeSocket(null, path => path === second),
    second,
  )
  assert.is(
    runtimeSocket(null, () => false),
    null,
  )
})

test.run()
