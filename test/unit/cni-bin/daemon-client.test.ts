import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { askDaemon } from '../../../cni-bin/daemon-client.ts'
import { encodeAnswer } from '../../../cni-bin/frame.ts'
import type { Libc } from '../../../cni-bin/libc.ts'

/** A socket that delivers `pieces`, then ends or falls silent. */
function libcWith(pieces: Buffer[], then: 'end' | 'silence', changes: Partial<Libc> = {}) {
  const left = [...pieces]
  const closed: number[] = []
  const libc: Libc = {
    socket: () => 7,
    connect: () => true,
    readable: () => left.length > 0 || then === 'end',
    write: (_fd, bytes) => bytes.length,
    read: (_fd, bytes) => {
      const piece = left.shift()
      if (piece === undefined) return 0
      bytes.set(piece)
      return piece.length
    },
    close: fd => {
      closed.push(fd)
    },
    open: () => -1,
    identity: () => null,
    lastError: () => '',
    ownNetnsCookie: () => '1',
    boottimeMs: () => 0,
    ...changes,
  }
  return { ask: () => askDaemon(libc, '/x', Buffer.from('frame'), 10_000), closed }
}

const answer = { status: 1, stdout: '{"code":11,"msg":"ü"}\n' }
const bytes = encodeAnswer(answer)

test('an answer in any pieces', () => {
  for (const size of [1, 7, 8, 9, bytes.length]) {
    const pieces = Array.from({ length: Math.ceil(bytes.length / size) }, (_, i) =>
      bytes.subarray(i * size, (i + 1) * size),
    )
    const { ask, closed } = libcWith(pieces, 'silence')
    assert.equal(ask(), { answer })
    assert.equal(closed, [7])
  }
})

test('what ends too soon is away, what stops is silent', () => {
  for (const end of [0, 4, 8, bytes.length - 1]) {
    const pieces = end === 0 ? [] : [bytes.subarray(0, end)]
    assert.equal(libcWith(pieces, 'end').ask(), { answer: null, reason: 'away' })
    assert.equal(libcWith(pieces, 'silence').ask(), { answer: null, reason: 'silent' })
  }
})

test('a header that no daemon sends is away at once', () => {
  const header = (status: number, length: number) => {
    const junk = Buffer.alloc(8)
    junk.writeUInt32LE(status)
    junk.writeUInt32LE(length, 4)
    return libcWith([junk], 'silence').ask()
  }
  assert.equal(header(256, 0), { answer: null, reason: 'away' })
  assert.equal(header(0, 4 * 1024 * 1024 + 1), { answer: null, reason: 'away' })
  assert.equal(header(255, 0), { answer: { status: 255, stdout: '' } })
})

test('no connection is away; a frame taken in part is silence', () => {
  assert.equal(libcWith([bytes], 'end', { connect: () => false }).ask(), { answer: null, reason: 'away' })
  assert.equal(libcWith([bytes], 'end', { write: () => 3 }).ask(), { answer: null, reason: 'silent' })
  assert.equal(libcWith([bytes], 'end', { write: () => -1 }).ask(), { answer: null, reason: 'away' })
})

test.run()
