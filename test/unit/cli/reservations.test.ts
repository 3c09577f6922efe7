/** IPReservations by the command line: a kind of which nothing but its document is shown. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { Twillctl } from '../../fixtures/twillctl.ts'

const DOCUMENT = `apiVersion: twill.network/v1alpha1
kind: IPReservation
metadata: {name: kept}
spec: {addresses: [10.0.0.1, 10.0.1.0/28, 10.0.2.5-10.0.2.9]}
`

test('applied, listed, printed so that apply takes it back, deleted', async () => {
  const cli = new Twillctl()
  cli.files.set('kept.yaml', DOCUMENT)
  assert.is((await cli.run('apply', '-f', 'kept.yaml')).out, 'IPReservation kept created\n')
  const table = await cli.run('get', 'reservations')
  assert.match(table.out, /NAME +ADDRESSES\n *kept +10\.0\.0\.1,10\.0\.1\.0\/28,10\.0\.2\.5-10\.0\.2\.9/)
  cli.files.set('printed.yaml', (await cli.run('get', 'ipreservation', 'kept', '-o', 'yaml')).out)
  assert.is((await cli.run('apply', '-f', 'printed.yaml')).out, 'IPReservation kept unchanged\n')
  assert.is((await cli.run('delete', 'ipreservation', 'kept')).out, 'IPReservation kept deleted\n')
  const gone = await cli.run('delete', 'ipreservation', 'kept')
  assert.equal([gone.code, gone.err], [1, 'error: IPReservation kept: not found\n'])
})

test('what is no address, prefix or range: field, value, expectation', async () => {
  const cli = new Twillctl()
  for (const [wrong, expected] of [
    [
      '10.0.0.9-10.0.0.5',
      /spec\.addresses\[0\]: "10\.0\.0\.9-10\.0\.0\.5": expected two addresses of one family, the lower first/,
    ],
    ['10.0.0.1/24', /expected no bits set beyond the length/],
    ['ten', /expected an IPv4 or IPv6 address/],
  ] as const) {
    cli.files.set('wrong.yaml', DOCUMENT.replace('10.0.0.1,', `${wrong},`))
    assert.match((await cli.run('apply', '-f', 'wrong.yaml')).err, expected)
  }
})

test.run()
