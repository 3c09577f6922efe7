/** Keys against bytes that nft itself put into the kernel (`nft --debug=netlink list set`). */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { encodeKey, type KeyLayout, keyLayout } from '../../../../kernel/nft/set-key.ts'
import { isTwillError } from '../../../../lib/errors.ts'

const concatenation = (...types: number[]) => types.reduce((value, type) => (value << 6) | type, 0)
const V4 = concatenation(41, 7, 9)
const V6 = concatenation(41, 8, 9)

function layout(type: number, length: number): KeyLayout {
  const found = keyLayout(type, length)
  if (found === null) throw new Error('no layout')
  return found
}

test('interface, IPv4 address, MAC', () => {
  const key = encodeKey(layout(V4, 28), '"twlab" . 10.0.0.1 . 02:00:00:00:00:01')
  assert.is(key.toString('hex'), '74776c6162000000' + '0000000000000000' + '0a000001' + '0200000000010000')
})

test('interface, IPv6 address, MAC', () => {
  const key = encodeKey(layout(V6, 40), '"twlab" . fd00::1 . 02:00:00:00:00:01')
  assert.is(key.subarray(16, 32).toString('hex'), 'fd000000000000000000000000000001')
  assert.is(key.subarray(32).toString('hex'), '0200000000010000')
})

test('a single address', () => {
  assert.is(encodeKey(layout(7, 4), '192.168.77.2').toString('hex'), 'c0a84d02')
})

test('what is not known has no layout', () => {
  assert.is(keyLayout(concatenation(41, 4), 20), null, 'a type of no fixed size')
  assert.is(keyLayout(V4, 24), null, 'a length that does not fit')
  assert.is(keyLayout(0, 0), null, 'nothing')
})

test('what does not fit the layout is refused', () => {
  for (const element of [
    '"twlab" . 10.0.0.1',
    '"twlab" . fd00::1 . 02:00:00:00:00:01',
    '"a-name-of-16-byte" . 10.0.0.1 . 02:00:00:00:00:01',
    '"" . 10.0.0.1 . 02:00:00:00:00:01',
  ])
    assert.throws(
      () => encodeKey(layout(V4, 28), element),
      (error: unknown) => isTwillError(error, 'internal'),
      element,
    )
  assert.throws(
    () => encodeKey(layout(V4, 28), '"twlab" . 10.0.0.1 . 02:00'),
    (error: unknown) => isTwillError(error, 'address.invalid'),
  )
})

test.run()
