import * as fc from 'fast-check'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { slotKey } from '../../../datastore/keys.ts'
import type { SlotRecord } from '../../../datastore/records/slot.ts'
import {
  checkSlot,
  claimedPart,
  claimPart,
  emptySlot,
  fenceParts,
  freeFenced,
  givePart,
  liftFences,
  mergeFree,
  parseSlotKey,
  partsOf,
} from '../../../ipam/slot.ts'
import { formatCidr, parseCidr } from '../../../lib/address.ts'

const SLOT = parseCidr('10.0.0.0/28')
const claimed = (owner = 'a', cidr = '10.0.0.0/28', from: SlotRecord = emptySlot(SLOT)) =>
  claimPart(from, cidr, { owner, claim: `claim-${owner}` }) as SlotRecord
const brief = (record: SlotRecord | null) =>
  record?.parts.map(
    part => `${part.cidr} ${part.owner ?? 'free'} ${part.generation}${part.fence ? ' fenced' : ''}`,
  )

test('a claim takes the whole free part and raises the generation', () => {
  const record = claimed()
  assert.equal(brief(record), ['10.0.0.0/28 a 2'])
  assert.is(record.generation, 2)
  assert.is(claimedPart(record, { owner: 'a', claim: 'claim-a' })?.cidr, '10.0.0.0/28')
  assert.is(claimedPart(record, { owner: 'a', claim: 'another' }), null)
})

test('rule 1: what is owned cannot be claimed', () => {
  assert.is(claimPart(claimed(), '10.0.0.0/28', { owner: 'b', claim: 'x' }), null)
  assert.is(claimPart(claimed(), '10.0.0.4/32', { owner: 'b', claim: 'x' }), null)
})

test('rule 2: the owner gives a piece, down to one address, and the part splits around it', () => {
  const record = givePart(claimed(), '10.0.0.5/32', {
    from: 'a',
    generation: 2,
    to: { owner: 'b', claim: 'wish' },
    cooling: { '10.0.0.5': 7 },
  })
  assert.equal(brief(record), [
    '10.0.0.0/30 a 2',
    '10.0.0.4/32 a 2',
    '10.0.0.5/32 b 3',
    '10.0.0.6/31 a 2',
    '10.0.0.8/29 a 2',
  ])
  assert.equal(record?.parts[2]?.cooling, { '10.0.0.5': 7 })
})

test('rule 1: a part of an older generation is not given', () => {
  const gift = { from: 'a', generation: 1, to: null, cooling: {} }
  assert.is(givePart(claimed(), '10.0.0.0/28', gift), null)
})

test('rule 2: freed buddies merge, parts of owners do not', () => {
  const gift = { from: 'a', generation: 2, to: null, cooling: {} }
  const half = givePart(claimed(), '10.0.0.8/29', gift) as SlotRecord
  assert.equal(brief(half), ['10.0.0.0/29 a 2', '10.0.0.8/29 free 3'])
  const whole = givePart(half, '10.0.0.0/29', { ...gift, cooling: { '10.0.0.1': 3 } })
  assert.equal(brief(whole), ['10.0.0.0/28 free 4'])
  assert.equal(whole?.parts[0]?.cooling, { '10.0.0.1': 3 })
  const two = claimed('b', '10.0.0.8/29', claimed('a', '10.0.0.0/29'))
  assert.is(mergeFree(two), two)
})

test('rule 9, 10, 11: fences come, are lifted, and free only what bears them', () => {
  const two = claimed('b', '10.0.0.8/29', claimed('a', '10.0.0.0/29'))
  const fenced = fenceParts(two, 'a', { id: 'f', allowanceMs: 5 }) as SlotRecord
  assert.equal(brief(fenced), ['10.0.0.0/29 a 2 fenced', '10.0.0.8/29 b 3'])
  assert.is(fenceParts(fenced, 'a', { id: 'f', allowanceMs: 5 }), null)
  assert.equal(brief(liftFences(fenced, 'a')), brief(two))
  assert.is(liftFences(fenced, 'b'), null)
  assert.is(freeFenced(fenced, new Set(['g'])), null)
  assert.equal(brief(freeFenced(fenced, new Set(['f']))), ['10.0.0.0/29 free 4', '10.0.0.8/29 b 3'])
})

test('a record whose parts leave a hole, overlap or run ahead of the counter is damaged', () => {
  const part = claimed().parts[0] as SlotRecord['parts'][number]
  const parts = (...cidrs: string[]) => ({ ...claimed(), parts: cidrs.map(cidr => ({ ...part, cidr })) })
  for (const record of [
    parts('10.0.0.0/29'),
    parts('10.0.0.8/29'),
    parts('10.0.0.0/29', '10.0.0.0/29'),
    parts('10.0.0.0/28', '10.0.0.8/29'),
    parts('10.0.0.0/27'),
    { ...claimed(), generation: 1 },
  ])
    assert.throws(() => checkSlot(record, SLOT), /slot 10\.0\.0\.0\/28/)
  checkSlot(parts('10.0.0.0/29', '10.0.0.8/29'), SLOT)
})

test('a slot is found again from its key, IPv6 too', () => {
  for (const text of ['10.0.0.0/26', 'fd00::1:0/122']) {
    const place = parseSlotKey(slotKey('uid', parseCidr(text)))
    assert.is(place?.poolUid, 'uid')
    assert.is(formatCidr(place?.slot ?? SLOT), text)
  }
  assert.is(parseSlotKey('slots/uid/nonsense'), null)
})

const steps = fc.array(
  fc.record({
    kind: fc.constantFrom('claim', 'give', 'free', 'fence', 'lift', 'reap'),
    owner: fc.constantFrom('a', 'b', 'c'),
    to: fc.constantFrom('a', 'b', 'c'),
    offset: fc.nat(15),
    prefix: fc.integer({ min: 28, max: 32 }),
  }),
  { maxLength: 30 },
)

test('whatever is done, the parts cover the slot, and a generation changes exactly with the owner', () => {
  fc.assert(
    fc.property(steps, sequence => {
      let record = emptySlot(SLOT)
      for (const step of sequence) {
        const next = apply(record, step)
        if (next === null) continue
        checkSlot(next, SLOT)
        assert.ok(next.generation >= record.generation)
        for (let offset = 0; offset < 16; offset++) {
          const [was, is] = [partAt(record, offset), partAt(next, offset)]
          if (was.owner === is.owner && was.owner !== null) assert.is(was.generation, is.generation)
          if (was.owner !== is.owner) assert.ok(is.generation > was.generation)
        }
        record = next
      }
    }),
    { numRuns: 500 },
  )
})

function apply(
  record: SlotRecord,
  step: { kind: string; owner: string; to: string; offset: number; prefix: number },
) {
  const size = 2 ** (32 - step.prefix)
  const cidr = `10.0.0.${Math.floor(step.offset / size) * size}/${step.prefix}`
  const generation = partAt(record, step.offset).generation
  const gift = { from: step.owner, generation, cooling: {} }
  if (step.kind === 'claim') return claimPart(record, cidr, { owner: step.owner, claim: 'x' })
  if (step.kind === 'give') return givePart(record, cidr, { ...gift, to: { owner: step.to, claim: 'y' } })
  if (step.kind === 'free') return givePart(record, cidr, { ...gift, to: null })
  if (step.kind === 'fence') return fenceParts(record, step.owner, { id: step.owner, allowanceMs: 1 })
  if (step.kind === 'lift') return liftFences(record, step.owner)
  return freeFenced(record, new Set([step.owner]))
}

function partAt(record: SlotRecord, offset: number) {
  const part = record.parts.findLast(({ cidr }) => Number(cidr.split('/')[0]?.split('.')[3]) <= offset)
  if (part === undefined) throw new Error(`no part at ${offset}`)
  return part
}

test("partsOf names the owner's parts alone", () => {
  assert.is(partsOf(claimed('b', '10.0.0.8/29', claimed('a', '10.0.0.0/29')), 'b').length, 1)
})

test.run()
