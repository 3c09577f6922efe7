import * as fc from 'fast-check'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { AddressRanges } from '../../../ipam/address-ranges.ts'
import { PartAddresses } from '../../../ipam/part-addresses.ts'
import { parseCidr, parseRange } from '../../../lib/address.ts'

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

const hosts = (...offsets: number[]) =>
  new AddressRanges(offsets.map(offset => parseRange(`10.0.0.${offset}`)))

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
  part.withhold(hosts(0, 1))
  assert.equal([part.holderOf(0), part.held, part.free], ['a', 1, 0])
  part.release(0, 5)
  assert.equal([part.held, part.free, part.take('b')], [0, 0, null])
})

const operations = fc.array(
  fc.record({
    kind: fc.constantFrom('take', 'takeAt', 'release', 'putBack', 'setFreed', 'withhold'),
    offset: fc.nat(7),
  }),
  { maxLength: 60 },
)

/** The same as plain lists. */
class Model {
  free = [0, 1, 2, 3, 4, 5, 6, 7]
  readonly held = new Set<number>()
  readonly withheld = new Set<number>()
  readonly freedMs: number[] = new Array(8).fill(Number.NEGATIVE_INFINITY)

  take(offset: number): boolean {
    if (this.held.has(offset)) return false
    this.free = this.free.filter(other => other !== offset)
    this.held.add(offset)
    return true
  }

  /** `atMs`: since when it is free, at the end of the line; null: it goes where it stood. */
  put(offset: number, atMs: number | null): void {
    this.held.delete(offset)
    this.free = this.free.filter(other => other !== offset)
    if (atMs !== null) this.freedMs[offset] = atMs
    if (this.withheld.has(offset)) return
    const freedMs = this.freedMs[offset] as number
    const place =
      atMs === null ? this.free.findIndex(other => (this.freedMs[other] as number) >= freedMs) : -1
    this.free.splice(place < 0 ? this.free.length : place, 0, offset)
  }

  toggle(offset: number): void {
    if (!this.withheld.delete(offset)) {
      this.withheld.add(offset)
      this.free = this.free.filter(other => other !== offset)
    } else if (!this.held.has(offset)) this.put(offset, null)
  }
}

test('no offset is held twice, none is lost, none withheld goes out, and the order is that of a plain list', () => {
  fc.assert(
    fc.property(operations, sequence => {
      const part = new PartAddresses(parseCidr('10.0.0.0/29'))
      const model = new Model()
      sequence.forEach(({ kind, offset }, step) => {
        const isHeld = model.held.has(offset)
        if (kind === 'take') {
          const [first = null] = model.free
          assert.is(part.take(`h${step}`), first)
          if (first !== null) model.take(first)
        } else if (kind === 'takeAt') assert.is(part.takeAt(offset, `h${step}`), model.take(offset))
        else if (kind === 'release') {
          part.release(offset, step)
          if (isHeld) model.put(offset, step)
        } else if (kind === 'putBack') {
          part.putBack(offset)
          if (isHeld) model.put(offset, null)
        } else if (kind === 'setFreed') {
          part.setFreed(offset, step)
          if (!isHeld) model.put(offset, step)
        } else {
          model.toggle(offset)
          part.withhold(hosts(...model.withheld))
        }
        assert.is(part.free, model.free.length)
        assert.is(part.held, model.held.size)
      })
      const { free } = model
      assert.equal(
        free.map(() => part.take('rest')),
        free,
      )
    }),
    { numRuns: 500 },
  )
})

test('an address that is withheld while it cools is given away with its cool-down', () => {
  const part = new PartAddresses(parseCidr('10.0.0.0/29'))
  part.takeAt(3, 'a')
  part.release(3, 100)
  part.withhold(hosts(3))
  assert.equal(part.freedAfter(50), [{ offset: 3, freedMs: 100 }])
})

test.run()
