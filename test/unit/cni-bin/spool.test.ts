import { mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import {
  decodeSpooled,
  encodeSpooled,
  isSpoolEntry,
  removeSpooled,
  type SpooledDel,
  writeSpooled,
} from '../../../cni-bin/spool.ts'
import { isTwillError } from '../../../lib/errors.ts'

const del: SpooledDel = {
  boot: 'b00t:17',
  boottimeMs: 123456,
  realtimeMs: 1_700_000_000_000,
  request: {
    program: 'twill',
    environment: new Map([
      ['CNI_COMMAND', 'DEL'],
      ['CNI_ARGS', 'A=ü\n'],
    ]),
    stdin: Buffer.from([0, 255, 123]),
    netnsDev: '4',
    netnsIno: null,
  },
}

const folder = mkdtempSync(join(tmpdir(), 'twe-spool-'))
test.after(() => rmSync(folder, { recursive: true, force: true }))

test('what is encoded is decoded, stdin byte by byte', () => {
  assert.equal(decodeSpooled(encodeSpooled(del)), del)
})

test('a damaged entry is refused with the field', () => {
  const changed = (change: object) => JSON.stringify({ ...JSON.parse(encodeSpooled(del)), ...change })
  const damaged: [string, RegExp][] = [
    ['', /file/],
    [encodeSpooled(del).slice(0, 40), /file/],
    ['[]', /file/],
    [changed({ version: 2 }), /version is 2, expected 1/],
    [changed({ boot: 1 }), /boot/],
    [changed({ boottimeMs: '1' }), /boottimeMs/],
    [changed({ environment: { A: 1 } }), /environment/],
    [changed({ stdin: null }), /stdin/],
    [changed({ netnsIno: 4 }), /netnsIno/],
  ]
  for (const [text, field] of damaged) {
    try {
      decodeSpooled(text)
      assert.unreachable(text)
    } catch (error) {
      assert.ok(isTwillError(error, 'document.invalid'), String(error))
      assert.match((error as Error).message, field)
    }
  }
})

test('an entry appears whole, for root only, in a folder made for it', () => {
  const spool = join(folder, 'a', 'b')
  const path = writeSpooled(spool, 'x-1', del)
  assert.equal(readdirSync(spool), ['x-1.json'])
  assert.is(statSync(path).mode & 0o777, 0o600)
  assert.is(statSync(spool).mode & 0o777, 0o700)
  removeSpooled(path)
  removeSpooled(path)
  assert.equal(readdirSync(spool), [])
})

test('a folder that cannot be is journal.write-failed', () => {
  writeFileSync(join(folder, 'file'), '')
  try {
    writeSpooled(join(folder, 'file', 'spool'), 'x', del)
    assert.unreachable()
  } catch (error) {
    assert.ok(isTwillError(error, 'journal.write-failed'))
  }
})

test('what is being written is no entry', () => {
  assert.ok(isSpoolEntry('0f-12-3.json'))
  for (const name of ['.0f-12-3.tmp', '.x.json', 'x.json.tmp', 'README', '.json'])
    assert.not(isSpoolEntry(name))
})

test.run()
