/** Prefixes at the edge: what ip-cidr and lib/address would each let through alone is refused. */
import fc from 'fast-check'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { problemOfCidr, problemOfPoolCidr } from '../../../../datastore/resources/cidr.ts'
import { type Cidr, cidrOf, formatCidr } from '../../../../lib/address.ts'

const PREFIX = 'expected a prefix such as 10.0.0.0/16 or fd00::/64'

const refused: [text: string, problem: string][] = [
  ['', PREFIX],
  ['10.0/8', PREFIX],
  ['010.0.0.0/8', PREFIX],
  [' 10.0.0.0/8', PREFIX],
  ['fd00::%eth0/64', PREFIX],
  ['banana', PREFIX],
  ['10.0.0.0', `${PREFIX}: a length is missing`],
  ['fd00::', `${PREFIX}: a length is missing`],
  ['10.0.0.0/33', 'expected a length from 0 to 32'],
  ['10.0.0.0/', 'expected a length from 0 to 32'],
  ['10.0.0.0/8x', 'expected a length from 0 to 32'],
  ['fd00::/129', 'expected a length from 0 to 128'],
  ['10.0.0.0/08', PREFIX],
  ['10.0.0.0/8/9', 'expected a length from 0 to 32'],
  ['10.0.0.1/8', 'expected no bits set beyond the length: 10.0.0.0/8'],
  ['fd00::1/64', 'expected no bits set beyond the length: fd00::/64'],
  ['::ffff:10.0.0.0/104', 'expected IPv6 in hexadecimal groups only'],
]

for (const [text, problem] of refused)
  test(`refused: ${JSON.stringify(text)}`, () => assert.is(problemOfCidr(text), problem))

test('accepted: both families, any length', () => {
  for (const text of ['10.0.0.0/8', '0.0.0.0/0', '10.0.0.1/32', 'fd00::/64', '::/0', 'FD00::1/128'])
    assert.is(problemOfCidr(text), null, text)
})

const prefixes: fc.Arbitrary<Cidr> = fc.oneof(
  fc
    .tuple(fc.bigInt(0n, (1n << 32n) - 1n), fc.integer({ min: 0, max: 32 }))
    .map(([value, prefix]) => cidrOf({ family: 4, value }, prefix)),
  fc
    .tuple(fc.bigInt(1n << 48n, (1n << 128n) - 1n), fc.integer({ min: 0, max: 80 }))
    .map(([value, prefix]) => cidrOf({ family: 6, value }, prefix)),
)

test('whatever lib/address writes is accepted', () => {
  fc.assert(fc.property(prefixes, cidr => problemOfCidr(formatCidr(cidr)) === null))
})

const reserved: [text: string, part: string][] = [
  ['0.0.0.0/0', '0.0.0.0/8'],
  ['127.1.0.0/16', 'loopback'],
  ['169.254.0.0/17', 'gateway'],
  ['160.0.0.0/4', 'link-local'],
  ['239.0.0.0/8', 'multicast'],
  ['::/0', '::/8'],
  ['fe80::/64', 'link-local'],
  ['ff00::/16', 'multicast'],
]

for (const [text, part] of reserved)
  test(`no pool in a reserved range: ${text}`, () => {
    const problem = problemOfPoolCidr(text)
    assert.ok(problem?.startsWith('expected a range outside ') && problem.includes(part), String(problem))
  })

test('ordinary ranges may be pools', () => {
  for (const text of ['10.244.0.0/16', '100.64.0.0/10', 'fd00:10:244::/112', '2001:db8::/64'])
    assert.is(problemOfPoolCidr(text), null, text)
})

test.run()
