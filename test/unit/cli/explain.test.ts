/** `explain`: every field of every kind has a meaning, and what is printed is what the schema says. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { KINDS } from '../../../datastore/resources/kinds.ts'
import { Twillctl } from '../../fixtures/twillctl.ts'

const explain = (...words: string[]) => new Twillctl().run('explain', ...words)

test('a kind: its fields, and a spec with every field, its type and its meaning', async () => {
  const whole = await explain('ippool')
  assert.is(whole.code, 0, whole.err)
  assert.match(whole.out, /KIND: +IPPool\nVERSION: +twill\.network\/v1alpha1/)
  assert.match(whole.out, /spec +<object> required/)
  const spec = await explain('pools.spec')
  assert.match(spec.out, /cidr +<string> required +Range the pool hands out/)
  assert.match(spec.out, /natOutgoing +<boolean> +(?!required).*Default true\./)
  assert.match(
    spec.out,
    /allowedUses +<\[\]string> .*One of pod, tunnel, ipam\. Default \["pod","tunnel"\]\./,
  )
})

test('no field is without a meaning', async () => {
  for (const { singular } of KINDS) assert.not.match((await explain(singular)).out, / -$/m)
})

test('a field, with and without spec', async () => {
  const { out } = await explain('ippool.spec.encapsulation')
  assert.match(out, /FIELD: +spec\.encapsulation <string>/)
  assert.match(out, /\(Always, the default\).*One of Always, CrossSubnet, Never\./)
  assert.is((await explain('IPPool.encapsulation')).out, out)
  assert.match((await explain('node.metadata.labels')).out, /metadata\.labels <map\[string\]string>/)
})

test('the annotations of a namespace that are read are named, with what they say', async () => {
  const { out } = await explain('ns.metadata.annotations')
  assert.match(out, /twill\.network\/ipv4-pool and twill\.network\/ipv6-pool.*names of IPPools/)
  assert.match((await explain('node.metadata.annotations')).out, 'Anything else.')
})

test('a kind or a field that is not there: what was meant', async () => {
  const field = await explain('ippool.blocksize')
  assert.is(field.code, 1)
  assert.match(field.err, /ippool\.blocksize: blocksize: unknown field, did you mean blockSize\?/)
  const kind = await explain('ippol')
  assert.is(kind.code, 2)
  assert.match(kind.err, /"ippol": unknown kind, did you mean ippool/)
  assert.is((await explain()).code, 2)
})

for (const { singular } of KINDS)
  test(`every field of ${singular} has a meaning`, async () => {
    for (const part of ['metadata', 'spec']) {
      const { out } = await explain(`${singular}.${part}`)
      const rows = out.split('\n').filter(line => / <\S+>/.test(line) && !line.startsWith('FIELD:'))
      for (const row of rows) assert.match(row, /<\S+>( required)? +(?!-$)\S/, row)
      if (part === 'metadata') assert.is(rows.length, 6)
    }
  })

test.run()
