import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { resolveEtcdOptions } from '../../../../datastore/etcd/options.ts'
import { isTwillError } from '../../../../lib/errors.ts'

test('defaults, and what is said instead', () => {
  const options = resolveEtcdOptions({ endpoints: ['http://10.0.0.1:2379'], callTimeoutMs: 7 })
  assert.is(options.prefix, '/twill/v1/')
  assert.is(options.callTimeoutMs, 7)
  assert.is(options.keepaliveMs, 10_000)
})

test('an undefined option is one not given', () => {
  const given = { endpoints: ['http://10.0.0.1:2379'], prefix: undefined } as never
  assert.is(resolveEtcdOptions(given).prefix, '/twill/v1/')
})

test('what cannot work is refused by name', () => {
  const refused: [object, string][] = [
    [{ endpoints: [] }, 'etcd.endpoints'],
    [{ endpoints: ['10.0.0.1:2379'] }, 'etcd.endpoints'],
    [{ endpoints: ['http://10.0.0.1:2379/'] }, 'etcd.endpoints'],
    [{ endpoints: ['http://a:1', 'https://b:1'] }, 'etcd.endpoints'],
    [{ endpoints: ['http://a:1'], prefix: '' }, 'etcd.prefix'],
  ]
  for (const [options, field] of refused) {
    try {
      resolveEtcdOptions(options as never)
      assert.unreachable(JSON.stringify(options))
    } catch (error) {
      assert.ok(isTwillError(error, 'config.invalid') && error.data.field === field, String(error))
    }
  }
})

test.run()
