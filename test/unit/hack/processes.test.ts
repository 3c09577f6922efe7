/** When a process of a rig counts as ended: its ports can be taken then. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { isLive } from '../../../hack/rig/processes.ts'

const test = suite('processes of a rig')
const folder = mkdtempSync(join(tmpdir(), 'twill-processes-'))
test.after(() => rmSync(folder, { recursive: true }))

const status = join(folder, 'status')

for (const [what, state, threads, live] of [
  ['runs', 'R (running)', 7, true],
  ['sleeps', 'S (sleeping)', 1, true],
  ['is stopped', 'T (stopped)', 1, true],
  ['was killed, and threads of it are ending', 'Z (zombie)', 12, true],
  ['has ended, and nobody has asked how', 'Z (zombie)', 1, false],
  ['is dead', 'X (dead)', 0, false],
] as const)
  test(`one that ${what} is ${live ? 'live' : 'not live'}`, () => {
    writeFileSync(status, `Name:\tetcd\nState:\t${state}\nPid:\t12\nThreads:\t${threads}\nSigQ:\t0/96286\n`)
    assert.is(isLive(status), live)
  })

test('one that is not there is not live', () => {
  assert.is(isLive(join(folder, 'none')), false)
})

test('this process, as the kernel describes it, is live', () => {
  assert.is(isLive('/proc/self/status'), true)
})

test.run()
