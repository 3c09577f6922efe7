import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { recordParser } from '../../../datastore/record.ts'
import { clusterRecord } from '../../../datastore/records/cluster.ts'
import { isTwillError } from '../../../lib/errors.ts'

const parse = recordParser(clusterRecord)

function problemOf(text: string): unknown {
  try {
    return parse(text, 'cluster')
  } catch (error) {
    assert.ok(isTwillError(error, 'document.invalid') && error.data.key === 'cluster')
    return error.data.problem
  }
}

test('a record is read, or its problem is named', () => {
  assert.equal(problemOf('{"v":1,"uid":"u"}'), { v: 1, uid: 'u' })
  assert.is(problemOf('{"v":1,"uid":""}'), 'damaged')
  assert.is(problemOf('{"v":1'), 'damaged')
  assert.is(problemOf('null'), 'damaged')
  assert.is(problemOf('{"v":0,"uid":"u"}'), 'damaged')
  assert.is(problemOf('{"v":"2","uid":"u"}'), 'damaged')
  assert.is(problemOf('{"v":2}'), 'newer')
})

test.run()
