/** The limit of inotify instances is raised where it does not suffice, and left alone where it does. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { ENOUGH_INSTANCES, raiseInotifyLimit } from '../../../hack/rig/kubernetes/inotify.ts'

const test = suite('inotify instances')
let folder: string
const file = () => join(folder, 'max_user_instances')

test.before.each(() => {
  folder = mkdtempSync(join(tmpdir(), 'inotify-'))
})
test.after.each(() => rmSync(folder, { recursive: true }))

test('too few are made enough, which is said once', () => {
  writeFileSync(file(), '128\n')
  assert.match(raiseInotifyLimit(file()) ?? '', `from 128 to ${ENOUGH_INSTANCES}`)
  assert.is(Number(readFileSync(file(), 'utf8')), ENOUGH_INSTANCES)
  assert.is(raiseInotifyLimit(file()), undefined)
})

test('more than enough stay', () => {
  writeFileSync(file(), `${ENOUGH_INSTANCES * 8}\n`)
  assert.is(raiseInotifyLimit(file()), undefined)
  assert.is(Number(readFileSync(file(), 'utf8')), ENOUGH_INSTANCES * 8)
})

test.run()
