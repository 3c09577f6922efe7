import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { decodeJournal, Journal, readJournal } from '../../../daemon/journal/journal.ts'
import { type Attachment, replayJournal } from '../../../daemon/journal/records.ts'
import { encodeLine } from '../../../lib/checked-line.ts'

const folder = mkdtempSync(join(tmpdir(), 'twill-journal-'))
test.after(() => rmSync(folder, { recursive: true }))

let files = 0
const newPath = () => join(folder, `journal-${files++}`)

const attachment: Attachment = {
  id: 'a1',
  network: 'twill',
  containerId: 'c1',
  ifName: 'eth0',
  netns: { path: '/run/netns/x', dev: '4', ino: '77' },
  netnsCookie: null,
  hostInterface: 'twl000000000001',
  podMac: '02:00:00:00:00:01',
  mtu: 1450,
  addresses: [{ family: 4, address: '10.0.0.1', poolUid: 'p', slot: '10.0.0.0/26', generation: 1 }],
  pod: null,
  boot: 'b:1',
  begunBoottimeMs: 5,
  since: 6,
  state: 'attaching',
}

test('what was appended is read back in order, also from a journal that was created anew', async () => {
  const path = newPath()
  const journal = await Journal.create(path, [{ first: 1 }])
  for (const n of [1, 2, 3]) journal.append({ n })
  await journal.close()
  assert.equal(await readJournal(path), {
    records: [{ first: 1 }, { n: 1 }, { n: 2 }, { n: 3 }],
    damaged: [],
  })
})

test('an append is in the file at once: it survives SIGKILL', async () => {
  const path = newPath()
  const journal = await Journal.create(path, [])
  journal.append({ n: 1 })
  assert.is(readFileSync(path, 'utf8'), encodeLine({ n: 1 }))
  await journal.close()
})

test('a missing file is an empty journal', async () => {
  assert.equal(await readJournal(newPath()), { records: [], damaged: [] })
})

test('a torn end costs the torn record only', async () => {
  const path = newPath()
  writeFileSync(path, encodeLine({ n: 1 }) + encodeLine({ n: 2 }).slice(0, -4))
  const contents = await readJournal(path)
  assert.equal(contents.records, [{ n: 1 }])
  assert.equal(contents.damaged, [{ line: 2, reason: 'torn: no end of line' }])
})

test('a flipped bit is seen and costs one record', async () => {
  const path = newPath()
  writeFileSync(path, encodeLine({ n: 1 }) + encodeLine({ n: 2 }).replace('2', '3') + encodeLine({ n: 4 }))
  const contents = await readJournal(path)
  assert.equal(contents.records, [{ n: 1 }, { n: 4 }])
  assert.is(contents.damaged[0]?.line, 2)
})

test('a file of junk holds no records and says so', () => {
  const contents = decodeJournal('\u0000\u0001junk\nmore\n')
  assert.is(contents.records.length, 0)
  assert.is(contents.damaged.length, 2)
})

test('compaction keeps the snapshot and what was appended during it', async () => {
  const path = newPath()
  const journal = await Journal.create(path, [{ n: 1 }, { n: 2 }])
  let compacted = false
  const compaction = journal.compact([{ n: 2 }]).then(() => {
    compacted = true
  })
  const expected = [{ n: 2 }]
  for (let n = 3; !compacted; n++) {
    journal.append({ n })
    expected.push({ n })
    // Both kinds of turn: between two events, and between two promises of one event.
    await (n % 2 === 0 ? undefined : new Promise(resolve => setImmediate(resolve)))
  }
  await compaction
  journal.append({ n: 0 })
  await journal.close()
  assert.equal((await readJournal(path)).records, [...expected, { n: 0 }])
})

test('an append that cannot be written is rejected by name', async () => {
  const journal = await Journal.create(newPath(), [])
  await journal.close()
  assert.throws(
    () => journal.append({ n: 1 }),
    (error: Error & { code: string }) => error.code === 'journal.write-failed',
  )
})

test('replay: intent, done, detach, gone', () => {
  const begun = { t: 'attach', attachment }
  const done = { t: 'attached', id: 'a1', podMac: '02:00:00:00:00:09', netnsCookie: '12' }
  assert.is(replayJournal([begun]).attachments.get('a1')?.state, 'attaching')
  const attached = replayJournal([begun, done]).attachments.get('a1')
  assert.is(attached?.state, 'attached')
  assert.is(attached?.netnsCookie, '12')
  assert.is(attached?.podMac, '02:00:00:00:00:09')
  assert.is(replayJournal([begun, done, { t: 'detach', id: 'a1' }]).attachments.get('a1')?.state, 'detaching')
  assert.is(
    replayJournal([begun, done, { t: 'detach', id: 'a1' }, { t: 'gone', id: 'a1' }]).attachments.size,
    0,
  )
})

test("a newer version's record is refused by name and the others stand", () => {
  const state = replayJournal([{ t: 'from-the-future' }, { t: 'attach', attachment }])
  assert.is(state.attachments.size, 1)
  assert.is(state.refused.length, 1)
  assert.match(state.refused[0] as string, 'from-the-future')
})

test('appends go to the new file after a compaction', async () => {
  const path = newPath()
  const journal = await Journal.create(path, [])
  await journal.compact([{ n: 1 }])
  journal.append({ n: 2 })
  assert.equal((await readJournal(path)).records, [{ n: 1 }, { n: 2 }])
  await journal.close()
})

test.run()
