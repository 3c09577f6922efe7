/** A watch's answer in lines: chunks that end anywhere, and a line without end. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { Lines } from '../../../../datastore/kubernetes/watch-lines.ts'
import { isTwillError } from '../../../../lib/errors.ts'

const text = '{"type":"ADDED","object":"ä"}\n\n{"type":"DELETED"}\n'

test('chunks that end anywhere, also within a character', () => {
  const whole = new Lines().push(Buffer.from(text))
  assert.equal(whole, ['{"type":"ADDED","object":"ä"}', '{"type":"DELETED"}'])
  for (let size = 1; size < text.length; size++) {
    const lines = new Lines()
    const bytes = Buffer.from(text)
    const got: string[] = []
    for (let at = 0; at < bytes.length; at += size) got.push(...lines.push(bytes.subarray(at, at + size)))
    assert.equal(got, whole, `chunks of ${size}`)
  }
})

test('a line without end is not gathered for ever; many lines are each short', () => {
  const lines = new Lines({ maxBytes: 100 })
  for (let i = 0; i < 20; i++) {
    assert.equal(lines.push(Buffer.alloc(80, 'x')), [])
    assert.equal(lines.push(Buffer.from('\n')).length, 1)
  }
  lines.push(Buffer.alloc(60, 'x'))
  assert.throws(
    () => lines.push(Buffer.alloc(60, 'x')),
    (error: unknown) =>
      isTwillError(error, 'kubernetes.unavailable') && /longer than 100 bytes/.test(error.message),
  )
})

test.run()
