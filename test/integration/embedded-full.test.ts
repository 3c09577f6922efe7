/** The embedded store on a disk that is full, then not. Needs root (a small file system of its own). */
import * as files from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { EmbeddedDatabase } from '../../datastore/embedded/database.ts'
import { EmbeddedStore } from '../../datastore/embedded/store.ts'
import { systemClock } from '../../lib/clock.ts'
import { isTwillError } from '../../lib/errors.ts'
import { silentLog } from '../../lib/log.ts'
import { enterOwnNamespaces, sh } from '../contract/kernel-world.ts'
import { recordWatch } from '../fixtures/watch-record.ts'

enterOwnNamespaces()
sh('mkdir /run/netns/twxdata; mount -t tmpfs -o size=256k twxdata /run/netns/twxdata')
/** Node works on files in threads that were not moved along. */
const path = join(`/proc/${process.pid}/root/run/netns/twxdata`, 'datastore')

const open = () =>
  EmbeddedDatabase.open({ path, compactBytes: 64 * 1024 }, { files, log: silentLog }).then(database => ({
    database,
    store: new EmbeddedStore({ database, clock: systemClock }),
  }))

test('until it is full everything is there; then nothing is half there; with room it goes on', async () => {
  const first = await open()
  const watched = recordWatch(first.store, '')
  const kept = new Map<string, string>()
  let refused: unknown = null
  for (let i = 0; refused === null && i < 1_000; i++) {
    const value = `${i} ${'x'.repeat(3_000)}`
    const outcome = await first.store.commit({ key: `k${i}`, expected: 0, value }).catch(error => error)
    if (outcome instanceof Error) refused = outcome
    else kept.set(`k${i}`, value)
  }
  assert.ok(isTwillError(refused, 'store.unavailable') && refused.retryable, String(refused))
  assert.match(String(refused), /ENOSPC/)
  assert.ok(kept.size > 20, `${kept.size}`)
  assert.is(first.store.status().connected, false)
  await watched.until('all', seen => seen.state.size === kept.size)
  assert.equal(new Map(watched.state), kept)
  await first.store.close()
  await first.database.close()

  // Also a start needs no room.
  const second = await open()
  const { entries } = await second.store.list('')
  assert.equal(new Map(entries.map(({ key, value }) => [key, value])), kept)
  for (const { key, modRevision } of entries.slice(3)) {
    // A deletion may not fit either, until the log was written anew, which is smaller by then.
    const deleted = await second.store
      .commit({ key, expected: modRevision, value: null })
      .catch(error => error as Error)
    if (deleted instanceof Error) assert.ok(isTwillError(deleted, 'store.unavailable'), String(deleted))
  }
  sh('mount -o remount,size=2m /run/netns/twxdata')
  const outcome = await second.store.commit({ key: 'after', expected: 0, value: 'x' })
  assert.ok(outcome.committed)
  assert.ok(second.store.status().connected)
  await second.store.close()
  await second.database.close()
})

test.run()
