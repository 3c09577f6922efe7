/** The node's journal on a disk that is full, or nearly. Needs root (a small file system of its own). */
import { readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { Journal, readJournal } from '../../daemon/journal/journal.ts'
import { LocalState } from '../../daemon/local-state.ts'
import { systemClock } from '../../lib/clock.ts'
import { silentLog } from '../../lib/log.ts'
import { enterOwnNamespaces, sh } from '../contract/kernel-world.ts'

enterOwnNamespaces()
sh('mkdir /run/netns/twxdisk; mount -t tmpfs -o size=256k twxdisk /run/netns/twxdisk')
/** Node works on files in threads that were not moved along. */
const stateDir = `/proc/${process.pid}/root/run/netns/twxdisk`
const path = join(stateDir, 'journal')
const ballast = join(stateDir, 'ballast')

/** Leaves this many bytes, in whole pages. */
function fillUpTo(leftBytes: number): void {
  try {
    writeFileSync(ballast, Buffer.alloc(300_000))
  } catch (error) {
    assert.is((error as NodeJS.ErrnoException).code, 'ENOSPC')
  }
  truncateSync(ballast, readFileSync(ballast).length - leftBytes)
}

test.after.each(() => {
  for (const name of readdirSync(stateDir)) rmSync(join(stateDir, name))
})

const records = Array.from({ length: 400 }, (_, n) => ({ n, text: 'x'.repeat(100) }))

test('a rewriting for which there is room in part leaves the old journal in use', async () => {
  const journal = await Journal.create(path, records)
  fillUpTo(16_384)
  const error = await journal.compact(records).then(
    () => null,
    (reason: Error & { code: string }) => reason,
  )
  assert.is(error?.code, 'journal.write-failed')
  assert.equal(readdirSync(stateDir), ['ballast', 'journal'])
  journal.append({ after: 1 })
  await journal.close()
  assert.equal(await readJournal(path), { records: [...records, { after: 1 }], damaged: [] })
})

test('a daemon starts from its journal although nothing more can be written, and goes on when there is room', async () => {
  const node = { t: 'node', uid: 'u1', name: 'n1', clusterUid: 'c1' } as const
  const options = { stateDir, boot: 'b:1', coolDownMs: 60_000 }
  const modules = { clock: systemClock, log: silentLog }
  const first = await LocalState.open(options, modules)
  await first.append(node)
  await first.close()
  fillUpTo(0)
  const second = await LocalState.open(options, modules)
  assert.is(second.node?.uid, 'u1')
  assert.ok(second.intact)
  rmSync(ballast)
  await second.append({ ...node, uid: 'u2' })
  await second.close()
  assert.is((await readJournal(path)).records.length, 2)
})

test.run()
