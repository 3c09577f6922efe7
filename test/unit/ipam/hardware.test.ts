import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { hardwareText, sameHardware } from '../../../ipam/hardware.ts'

const text = (productUuid: string, ...macs: string[]) => hardwareText({ productUuid, macs })

test('the order of interfaces does not matter', () => {
  assert.is(text('', 'b', 'a'), text('', 'a', 'b'))
})

test('product UUIDs decide: another network card is no other machine, a clone with a MAC in common is', () => {
  assert.ok(sameHardware(text('u1', 'a'), text('u1', 'b', 'c')))
  assert.not.ok(sameHardware(text('u1', 'a'), text('u2', 'a')))
})

test('without one, a MAC in common does; nothing in common is another machine', () => {
  assert.ok(sameHardware(text('', 'a', 'b'), text('', 'b', 'c')))
  assert.ok(sameHardware(text('u1', 'a'), text('', 'a')))
  assert.not.ok(sameHardware(text('', 'a'), text('', 'b')))
})

test('two machines that have neither are only the same when they say the same', () => {
  assert.ok(sameHardware(text(''), text('')))
  assert.not.ok(sameHardware('something else', text('')))
})

test.run()
