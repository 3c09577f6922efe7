import * as fc from 'fast-check'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { PartAddresses } from '../../../ipam/part-addresses.ts'
import { parseCidr } from '../../../lib/address.ts'

test('a fresh part is walked through in order, every address of it', () => {
  const part = new PartAddresses(parseCidr('10.0.0.0/29'))
  assert.equal(
    Array.from({ length: 9 }, (_, i) => part.take(`h${i}`)),
    [0, 1, 2, 3, 4, 5, 6, 7, null],
  )
  assert.is(part.free, 0)
})

test('what was freed longest ago goes out first, after what was never used', () => {
  const part = new PartAddresses(parseCidr('10.0.0.0/30'))
  for (const holder of ['a', 'b', 'c']) part.take(holder)
  part.release(1, 10)
  part.release(0, 20)
  assert.equal([part.take('d'), part.take('e'), part.take('f')], [3, 1, 0])
})

test('what was put back goes out first again', () => {
  const part = new PartAddresses(parseCidr('10.0.0.0/30'))
  part.take('a')
  part.putBack(0)
  assert.is(part.take('b'), 0)
})

test('cool-down is counted and told', () => {
  const part = new PartAddresses(parseCidr('10.0.0.0/30'))
  for (const holder of ['a', 'b', 'c', 'd']) part.take(holder)
  part.release(2, 10)
  part.release(0, 20)
  assert.is(part.countFreedBy(15, 9), 1)
  assert.is(part.countFreedBy(25, 9), 2)
  assert.is(part.oldestFreedMs, 10)
  assert.equal(part.freedAfter(15), [{ offset: 0, freedMs: 20 }])
})

test('one address, as a /32 block has', () => {
  const part = new PartAddresses(parseCidr('fd00::7/128'))
  assert.is(part.take('a'), 0)
  assert.is(part.take('b'), null)
  part.release(0, 5)
  assert.is(part.take('b'), 0)
})

const hosts = (...offsets: number[]) => offsets.map(offset => parseCidr(`10.0.0.${offset}/32`))

test('what is withheld does not go out and is not counted; lifted, it goes out in its turn', () => {
  const part = new PartAddresses(parseCidr('10.0.0.0/30'))
  part.take('a')
  part.take('b')
  part.release(0, 10)
  part.release(1, 20)
  part.withhold(hosts(0, 2))
  assert.equal([part.free, part.held], [2, 0])
  assert.is(part.take('c'), 3)
  assert.is(part.take('d'), 1)
  assert.is(part.take('e'), null)
  part.release(1, 30)
  part.withhold(hosts(2))
  assert.equal([part.take('f'), part.take('g'), part.take('h')], [0, 1, null])
})

test('who holds an address that is withheld later keeps it, and nobody gets it afterwards', () => {
  const part = new PartAddresses(parseCidr('10.0.0.0/31'))
  part.takeAt(0, 'a')
  part.withhold([parseCidr('10.0.0.0/24')])
  assert.equal([part.holderOf(0), part.held, part.free], ['a', 1, 0])
  part.release(0, 5)
  assert.equal([part.held, part.free, part.take('b')], [0, 0, null])
})

const operations = fc.array(
  fc.record({ kind: fc.constantFrom('take', 'takeAt', 'release', 'putBack', 'setFreed'), offset: fc.nat(7) }),
  { maxLength: 60 },
)

test('no offset is held twice, none is lost, and the order is that of a plain list', () => {
  fc.assert(
    fc.property(operations, sequence => {
      const part = new PartAddresses(parseCidr('10.0.0.0/29'))
      let free = [0, 1, 2, 3, 4, 5, 6, 7]
      sequence.forEach(({ kind, offset }, step) => {
        const isFree = free.includes(offset)
        const without = free.filter(other => other !== offset)
        if (kind === 'take') assert.is(part.take(`h${step}`), free.shift() ?? null)
        else if (kind === 'takeAt') {
          assert.is(part.takeAt(offset, `h${step}`), isFree)
          free = without
        } else if (kind === 'release') {
          part.release(offset, step)
          if (!isFree) free.push(offset)
        } else if (kind === 'putBack') {
          part.putBack(offset)
          if (!isFree) free.unshift(offset)
        } else {
          part.setFreed(offset, step)
          if (isFree) free = [...without, offset]
        }
        assert.is(part.free, free.length)
        assert.is(part.held, 8 - free.length)
      })
      assert.equal(
        free.map(() => part.take('rest')),
        free,
      )
    }),
    { numRuns: 500 },
  )
})

test.run()
