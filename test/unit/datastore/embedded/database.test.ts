/** The embedded store's log: torn, damaged, compacted, and on disks that refuse, in part or without saying so. */
import * as files from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { EmbeddedDatabase } from '../../../../datastore/embedded/database.ts'
import { decodeLog, encodeCheckpoint } from '../../../../datastore/embedded/frames.ts'
import type { Files } from '../../../../datastore/embedded/log.ts'
import type { CommitOutcome } from '../../../../datastore/store.ts'
import { encodeLine } from '../../../../lib/checked-line.ts'
import { isTwillError } from '../../../../lib/errors.ts'
import { silentLog } from '../../../../lib/log.ts'

interface Context {
  folder: string
  path: string
}

const test = suite<Context>('embedded database')

test.before.each(async context => {
  context.folder = await files.mkdtemp(join(tmpdir(), 'twill-embedded-'))
  context.path = join(context.folder, 'datastore')
})
test.after.each(context => files.rm(context.folder, { recursive: true }))

const open = (path: string, more: { compactBytes?: number; files?: Files } = {}) =>
  EmbeddedDatabase.open({ path, ...more }, { files: more.files ?? files, log: silentLog })

const stateOf = (database: EmbeddedDatabase) =>
  database.state.list('').map(({ key, value, modRevision }) => `${key}=${value}@${modRevision}`)

const put = (database: EmbeddedDatabase, key: string, value: string | null): Promise<CommitOutcome> =>
  database.commit({ key, expected: database.state.get(key)?.modRevision ?? 0, value }, null)

const codeOf = (promise: Promise<unknown>) =>
  promise.then(
    () => 'accepted',
    error => (isTwillError(error) ? error.code : String(error)),
  )

/** Handles on which the next of these calls fail, each once; `partly`: a write takes half of it first; `beside`: no new file. */
function failing() {
  const next = {
    write: null as Error | null,
    datasync: null as Error | null,
    partly: false,
    rename: false,
    beside: false,
  }
  const disk: Files = {
    ...files,
    rename: async (from, to) => {
      if (next.rename) throw Object.assign(new Error('EIO: rename'), { code: 'EIO' })
      await files.rename(from, to)
    },
    open: async (...args) => {
      if (next.beside && String(args[0]).endsWith('.new')) throw noSpace()
      const handle = await files.open(...args)
      const { datasync } = handle
      const write = handle.write.bind(handle) as (...args: unknown[]) => Promise<{ bytesWritten: number }>
      const failWith = (call: 'write' | 'datasync') => {
        const error = next[call]
        next[call] = null
        if (error !== null) throw error
      }
      handle.write = (async (bytes: Buffer, offset: number, length: number, position: number) => {
        if (next.partly) {
          next.partly = false
          return write(bytes, offset, Math.ceil(length / 2), position)
        }
        failWith('write')
        return write(bytes, offset, length, position)
      }) as unknown as typeof handle.write
      handle.datasync = async () => {
        failWith('datasync')
        await datasync.call(handle)
      }
      return handle
    },
  }
  return { disk, next }
}

const noSpace = () => Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' })
const badDisk = () => Object.assign(new Error('EIO: i/o error, fdatasync'), { code: 'EIO' })

test('what was committed is there after the next start, revisions included', async ({ path }) => {
  const first = await open(path)
  await put(first, 'a', '1')
  await put(first, 'b', 'ü')
  await put(first, 'a', '2')
  await put(first, 'b', null)
  const { revision } = first.state
  await first.close()
  const second = await open(path)
  assert.equal(stateOf(second), ['a=2@4'])
  assert.is(second.state.revision, revision)
  assert.is((await put(second, 'b', 'new')).revision, revision + 1)
  await second.close()
})

test('commits of one instant share a frame, each compared with those before it', async ({ path }) => {
  const database = await open(path)
  const outcomes = await Promise.all([
    database.commit({ key: 'k', expected: 0, value: '1' }, null),
    database.commit({ key: 'k', expected: 0, value: 'too late' }, null),
    database.commit({ key: 'k', expected: 2, value: '2' }, null),
    database.commit({ key: 'k', expected: 3, value: null }, null),
    database.commit({ key: 'k', expected: 0, value: '3' }, null),
    database.commit({ key: 'none', expected: 0, value: null }, null),
  ])
  assert.equal(
    outcomes.map(({ committed, revision }) => [committed, revision]),
    [
      [true, 2],
      [false, 2],
      [true, 3],
      [true, 4],
      [true, 5],
      [true, 5],
    ],
  )
  await database.close()
  const lines = (await files.readFile(path, 'utf8')).trim().split('\n')
  assert.is(lines.length, 2)
  const again = await open(path)
  assert.equal(stateOf(again), ['k=3@5'])
  await again.close()
})

test('a log torn at any byte holds exactly the frames that are whole', async ({ path }) => {
  const first = await open(path)
  const states = new Map([[(await files.stat(path)).size, stateOf(first)]])
  for (const [key, value] of [
    ['a', '1'],
    ['b', '2'],
    ['a', 'ä3'],
    ['b', null],
  ] as const) {
    await put(first, key, value)
    states.set((await files.stat(path)).size, stateOf(first))
  }
  await first.close()
  const bytes = await files.readFile(path)
  const ends = [...states.keys()]
  for (let length = ends[0] as number; length <= bytes.length; length++) {
    await files.writeFile(path, bytes.subarray(0, length))
    const torn = await open(path)
    const whole = ends.filter(end => end <= length).at(-1) as number
    assert.equal(stateOf(torn), states.get(whole), `${length} bytes`)
    assert.is((await files.stat(path)).size, whole, 'cut off')
    await put(torn, 'after', 'x')
    await torn.close()
    assert.not.throws(() => decodeLog(bytes.subarray(0, whole), path))
    const again = await open(path)
    assert.equal(stateOf(again).length, (states.get(whole) as string[]).length + 1)
    await again.close()
  }
})

test('a bit that turned on disk: in the last frame it is torn, anywhere before the log is refused', async ({
  path,
}) => {
  const first = await open(path)
  await put(first, 'a', '1')
  const lastFrame = (await files.stat(path)).size
  await put(first, 'b', '2')
  await first.close()
  const bytes = await files.readFile(path)
  for (let at = 0; at < bytes.length; at++) {
    const turned = Buffer.from(bytes)
    turned[at] = (turned[at] as number) ^ 1
    await files.writeFile(path, turned)
    if (at < lastFrame) {
      assert.is(await codeOf(open(path)), 'store.damaged', `byte ${at}`)
      assert.equal(await files.readFile(path), turned, 'left as it was')
      continue
    }
    const opened = await open(path)
    assert.equal(stateOf(opened), ['a=1@2'], `byte ${at}`)
    await opened.close()
    assert.equal(await files.readFile(`${path}.torn`), turned.subarray(lastFrame), 'kept beside it')
  }
})

test('a frame that is missing, an empty file, a newer format: refused, and says what to do', async ({
  path,
}) => {
  const state = { revision: 1, entries: new Map() }
  const head = encodeCheckpoint(state)
  const lines = [
    { r: 3, changes: [['k', 'v']] },
    { r: 4, changes: [['k', 'w']] },
  ]
    .map(encodeLine)
    .join('')
  for (const [text, why] of [
    [`${head}${lines}`, /line 2: checksum or revision/],
    ['', /line 1/],
    [encodeLine({ v: 2, revision: 1, entries: [] }), /format version 2, this build knows 1/],
    [encodeLine({ hello: 1 }), /not a checkpoint.*backup/],
  ] as const) {
    await files.writeFile(path, text)
    const error = await open(path).catch(reason => reason)
    assert.ok(isTwillError(error, 'store.damaged'), String(error))
    assert.match(error.message, why)
  }
})

test('a full disk: refused, not visible, not there after a start; a commit that fits still goes in', async ({
  path,
}) => {
  const { disk, next } = failing()
  const database = await open(path, { files: disk })
  await put(database, 'a', '1')
  const seen: string[] = []
  database.state.observe(() => seen.push(stateOf(database).join()))
  next.partly = true
  next.write = noSpace()
  assert.is(await codeOf(put(database, 'big', 'x'.repeat(100))), 'store.unavailable')
  assert.match(database.failure?.message ?? '', /no space left/)
  assert.equal([stateOf(database), seen], [['a=1@2'], []])
  assert.equal(decodeLog(await files.readFile(path), path).length, (await files.stat(path)).size, 'cut back')
  await put(database, 'b', '2')
  assert.is(database.failure, null)
  await database.close()
  const again = await open(path)
  assert.equal(stateOf(again), ['a=1@2', 'b=2@3'])
  await again.close()
})

test('of a group that does not fit, those go in that fit alone', async ({ path }) => {
  const { disk, next } = failing()
  const database = await open(path, { files: disk })
  next.write = noSpace()
  const codes = await Promise.all(['a', 'b', 'c'].map(key => codeOf(put(database, key, '1'))))
  assert.equal(codes, ['accepted', 'accepted', 'accepted'])
  assert.equal(stateOf(database), ['a=1@2', 'b=1@3', 'c=1@4'])
  await database.close()
})

test('a sync that fails leaves doubt; the next commit comes with a new file, and what it says is all there is', async ({
  path,
}) => {
  const { disk, next } = failing()
  const database = await open(path, { files: disk })
  await put(database, 'a', '1')
  next.datasync = badDisk()
  assert.is(await codeOf(put(database, 'a', 'doubtful')), 'store.in-doubt')
  assert.equal(stateOf(database), ['a=1@2'])
  next.rename = true
  assert.is(await codeOf(put(database, 'a', '2')), 'store.unavailable', 'no new file: nothing is taken')
  next.rename = false
  const before = (await files.stat(path)).ino
  assert.is(await codeOf(put(database, 'a', '2')), 'accepted')
  assert.not.equal((await files.stat(path)).ino, before)
  await database.close()
  const again = await open(path)
  assert.equal(stateOf(again), ['a=2@3'])
  await again.close()
})

test('killed in doubt: the change has taken effect, or not, and nothing else', async ({ path }) => {
  const { disk, next } = failing()
  const database = await open(path, { files: disk })
  await put(database, 'a', '1')
  next.datasync = badDisk()
  await codeOf(put(database, 'a', '2'))
  const again = await open(path)
  assert.equal(stateOf(again), ['a=2@3'])
  await again.close()
  await database.close()
})

test('a long log is written anew, a failure to do so stops nothing, and watches go on', async ({ path }) => {
  const { disk, next } = failing()
  const database = await open(path, { compactBytes: 2_000, files: disk })
  const sizes: number[] = []
  next.beside = true
  for (let i = 0; i < 40; i++) await put(database, 'k', `${i} ${'x'.repeat(100)}`)
  next.beside = false
  assert.is(database.state.get('k')?.value.slice(0, 2), '39')
  for (let i = 0; i < 200; i++) {
    await put(database, 'k', `${i} ${'x'.repeat(100)}`)
    sizes.push((await files.stat(path)).size)
  }
  assert.ok(Math.max(...sizes.slice(60)) < 3_000, `${Math.max(...sizes.slice(60))} bytes`)
  const before = stateOf(database)
  await database.close()
  const again = await open(path)
  assert.equal(stateOf(again), before)
  await again.close()
})

test('of 3,000 changes a watch that is behind is told those still known, or that only a list will do', async ({
  path,
}) => {
  const database = await open(path)
  for (let i = 0; i < 3_000; i += 100)
    await Promise.all(Array.from({ length: 100 }, (_, j) => put(database, `k${i + j}`, 'v')))
  const { revision, epoch } = database.state
  const near = database.state.since('', revision - 900, epoch)
  assert.is(near.resumable && near.events.length, 900)
  assert.is(database.state.since('', 2, epoch).resumable, false)
  await database.close()
})

test.run()
