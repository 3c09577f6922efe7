/** Namespaces by the command line. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { Twillctl } from '../../fixtures/twillctl.ts'

const DOCUMENT = `apiVersion: twill.network/v1alpha1
kind: Namespace
metadata:
  name: shop
  labels: {team: retail}
  annotations: {twill.network/ipv4-pool: 'shop, spare'}
`

test('applied, listed, printed so that apply takes it back, deleted', async () => {
  const cli = new Twillctl()
  cli.files.set('shop.yaml', DOCUMENT)
  assert.is((await cli.run('apply', '-f', 'shop.yaml')).out, 'Namespace shop created\n')
  assert.match((await cli.run('get', 'ns')).out, /NAME +LABELS\n *shop +team=retail/)
  cli.files.set('printed.yaml', (await cli.run('get', 'namespace', 'shop', '-o', 'yaml')).out)
  assert.is((await cli.run('apply', '-f', 'printed.yaml')).out, 'Namespace shop unchanged\n')
  assert.is((await cli.run('delete', 'namespace', 'shop')).out, 'Namespace shop deleted\n')
})

test('annotations that would not be understood: field, value, expectation', async () => {
  const cli = new Twillctl()
  for (const [wrong, expected] of [
    [
      'twill.network/ipv4-pool: Shop',
      /line 6: metadata\.annotations\.twill\.network\/ipv4-pool: "Shop": expected names of IPPools/,
    ],
    ['twill.network/ipv6-pool: ""', /ipv6-pool: "": expected names of IPPools, .*separated by commas/],
    [
      'twill.network/ipv4-pol: shop',
      /line 6: metadata\.annotations\.twill\.network\/ipv4-pol: "shop": unknown annotation, did you mean twill\.network\/ipv4-pool\?/,
    ],
    ['twill.network/ip-addresses: 10.0.0.1', /"10\.0\.0\.1": expected none: a pod asks for its own/],
  ] as const) {
    cli.files.set('wrong.yaml', DOCUMENT.replace(/annotations: .*/, `annotations: {${wrong}}`))
    const { code, err } = await cli.run('apply', '-f', 'wrong.yaml')
    assert.match(err, expected)
    assert.is(code, 1)
  }
})

test.run()
