import { test } from 'uvu'
import * as assert from 'uvu/assert'
import {
  decodeAnswer,
  decodeRequest,
  encodeAnswer,
  encodeRequest,
  HEADER_BYTES,
  MAX_STDIN_BYTES,
  type Request,
  requestLength,
} from '../../../cni-bin/frame.ts'
import { isTwillError } from '../../../lib/errors.ts'

const request: Request = {
  program: 'twill',
  environment: new Map([
    ['CNI_COMMAND', 'ADD'],
    ['CNI_ARGS', 'A=b;C=ü'],
    ['CNI_PATH', ''],
  ]),
  stdin: Buffer.from([0, 1, 255]),
  netnsDev: '4',
  netnsIno: '18446744073709551615',
}

function refused(change: (bytes: Buffer) => Buffer): void {
  try {
    decodeRequest(change(encodeRequest(request)))
    assert.unreachable()
  } catch (error) {
    assert.ok(isTwillError(error, 'frame.invalid'), String(error))
  }
}

test('a request is what it was, with empty values, "=" in values and bytes that are no text', () => {
  assert.equal(decodeRequest(encodeRequest(request)), request)
})

test('no namespace is null', () => {
  const decoded = decodeRequest(encodeRequest({ ...request, netnsDev: null, netnsIno: null }))
  assert.equal([decoded.netnsDev, decoded.netnsIno], [null, null])
})

test('the length is known from the header on', () => {
  const bytes = encodeRequest(request)
  assert.is(requestLength(bytes.subarray(0, HEADER_BYTES - 1)), null)
  assert.is(requestLength(bytes.subarray(0, HEADER_BYTES)), bytes.length)
})

test('junk is refused at its first bytes', () => {
  assert.throws(() => requestLength(Buffer.from('JJJJ')), /magic/)
  refused(bytes => bytes.subarray(0, bytes.length - 1))
  refused(bytes => Buffer.concat([bytes, Buffer.from('x')]))
  refused(bytes => {
    bytes.writeUInt32LE(MAX_STDIN_BYTES + 1, 8)
    return bytes
  })
  refused(bytes => Buffer.from(bytes.toString('latin1').replace('CNI_PATH=', 'CNI_PATH!'), 'latin1'))
})

test('an answer is null until it is whole', () => {
  const bytes = encodeAnswer({ status: 1, stdout: 'ü\n' })
  for (let end = 0; end < bytes.length; end++) assert.is(decodeAnswer(bytes.subarray(0, end)), null)
  assert.equal(decodeAnswer(bytes), { status: 1, stdout: 'ü\n' })
})

test.run()
