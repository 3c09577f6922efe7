/** The table of kinds: names are unique, paths lead somewhere, and a JSON schema (for CRDs) comes out of each. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { z } from 'zod'
import { readDocuments } from '../../../../datastore/resources/documents.ts'
import {
  completed,
  fieldOf,
  KINDS,
  kindNamed,
  kindOf,
  namesOf,
} from '../../../../datastore/resources/kinds.ts'

const samples: Record<string, string> = {
  IPPool:
    'apiVersion: twill.network/v1alpha1\nkind: IPPool\nmetadata: {name: a}\nspec: {cidr: 10.0.0.0/16}\n',
  IPReservation:
    'apiVersion: twill.network/v1alpha1\nkind: IPReservation\nmetadata: {name: a}\nspec: {addresses: [10.0.0.1]}\n',
  Namespace:
    'apiVersion: twill.network/v1alpha1\nkind: Namespace\nmetadata: {name: a, labels: {a: b}, annotations: {a: b}}\n',
  Node: 'apiVersion: twill.network/v1alpha1\nkind: Node\nmetadata: {name: a, labels: {a: b}}\n',
}

/** With the fields that the sample cannot have. */
const LAN =
  'apiVersion: twill.network/v1alpha1\nkind: IPPool\nmetadata: {name: b}\nspec: {cidr: 10.1.0.0/16, allowedUses: [ipam], gateway: 10.1.0.9, nodeSelector: {matchLabels: {a: b}}, namespaceSelector: {matchLabels: {a: b}}}\n'

const read = (text: string) =>
  readDocuments([{ name: 'sample', text }]).resources.map(({ resource }) => resource)

test('no name belongs to two kinds, and each finds its kind', () => {
  const names = KINDS.flatMap(namesOf)
  assert.is(new Set(names).size, names.length)
  for (const kind of KINDS)
    for (const name of [...namesOf(kind), kind.kind, kind.plural.toUpperCase()])
      assert.is(kindNamed(name), kind)
  assert.is(kindNamed('pods'), null)
  assert.is(kindNamed('toString'), null)
})

for (const kind of KINDS) {
  const [sample] = read(samples[kind.kind] ?? '')

  test(`${kind.kind}: a valid sample is of its kind, and its columns and immutable fields exist`, () => {
    assert.is(kindOf(sample!), kind)
    const all = [sample!, ...read(LAN).filter(each => kindOf(each) === kind)]
    for (const path of [...kind.immutable, ...kind.columns.map(column => column.field)])
      assert.ok(
        all.some(each => fieldOf(completed(each), path) !== undefined),
        path.join('.'),
      )
  })

  test(`${kind.kind}: the OpenAPI schema of what an operator writes`, () => {
    const schema = z.toJSONSchema(kind.schema, { target: 'openapi-3.0', io: 'input' })
    assert.equal(Object.keys(schema.properties ?? {}), ['apiVersion', 'kind', 'metadata', 'spec'])
    assert.is(schema.additionalProperties, false)
    assert.ok(!schema.required?.includes('blockSize'))
    assert.ok(JSON.stringify(schema).length > 200)
  })
}

test('completed fills the block size of either family', () => {
  const of = (cidr: string) => {
    const [pool] = read(samples.IPPool!.replace('10.0.0.0/16', `"${cidr}"`))
    return fieldOf(completed(pool!), ['spec', 'blockSize'])
  }
  assert.is(of('10.0.0.0/16'), 26)
  assert.is(of('fd00::/64'), 122)
})

test('completed says in two fields what a mode says in one word', () => {
  const of = (line: string) => {
    const [pool] = read(samples.IPPool!.replace('16}', `16${line}}`))
    return ['mode', 'encapsulation', 'routes'].map(name => fieldOf(completed(pool!), ['spec', name]))
  }
  assert.equal(of(''), [undefined, 'Always', 'Datastore'])
  assert.equal(of(', mode: vxlan'), [undefined, 'Always', 'Datastore'])
  assert.equal(of(', mode: crossSubnet'), [undefined, 'CrossSubnet', 'Datastore'])
  assert.equal(of(', mode: direct'), [undefined, 'Never', 'Datastore'])
  assert.equal(of(', mode: bgp'), [undefined, 'Never', 'BGP'])
  assert.equal(of(', encapsulation: Never'), [undefined, 'Never', 'Datastore'])
})

test('completed fills the gateway of a pool for ipam, and of no other', () => {
  const gatewayOf = (text: string) => fieldOf(completed(read(text)[0]!), ['spec', 'gateway'])
  assert.is(gatewayOf(LAN), '10.1.0.9')
  assert.is(gatewayOf(LAN.replace(', gateway: 10.1.0.9', '')), '10.1.0.1')
  assert.is(gatewayOf(samples.IPPool!), undefined)
})

test.run()
