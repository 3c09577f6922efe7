/** The embedded store killed at every step of a commit and of a compaction, and at any moment: what was answered is there. */
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import * as files from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { EmbeddedDatabase } from '../../datastore/embedded/database.ts'
import { FAULT_POINTS } from '../../lib/fault.ts'
import { silentLog } from '../../lib/log.ts'

const CHILD = fileURLToPath(new URL('./embedded-kill-child.ts', import.meta.url))
const test = suite<{ folder: string; path: string }>('embedded store, killed')

test.before.each(async context => {
  context.folder = await files.mkdtemp(join(tmpdir(), 'twill-embedded-kill-'))
  context.path = join(context.folder, 'datastore')
})
test.after.each(context => files.rm(context.folder, { recursive: true }))

const program = (path: string) => ['--import', 'tsx', CHILD, path]

/** What the next life finds, against what the dead one was answered. */
async function judge(path: string, answered: string): Promise<{ found: number; last: number }> {
  const [last = 0, revision = 1] = (answered.trim().split('\n').at(-1) ?? '').split(' ').map(Number)
  const database = await reopen(path)
  const { state } = database
  const [one, two] = [state.get('one')?.value, state.get('two')?.value]
  await database.close()
  assert.is(one, two, 'half of a frame')
  const found = Number(one ?? 0)
  assert.ok(found === last || found === last + 1, `answered ${last}, found ${found}`)
  assert.is(state.revision, found === last ? revision || 1 : (revision || 1) + 2)
  return { found, last }
}

const reopen = (path: string) => EmbeddedDatabase.open({ path }, { files, log: silentLog })

async function goesOn(path: string): Promise<void> {
  const database = await reopen(path)
  const { revision } = database.state
  const outcome = await database.commit({ key: 'after', expected: 0, value: 'x' }, null)
  assert.equal(outcome, { committed: true, revision: revision + 1 })
  await database.close()
}

/** Whether the commit under way is on disk when the process dies there. */
const DURABLE: Record<string, boolean> = {
  'store.before-write': false,
  'store.written': true,
  'store.synced': true,
  'store.applied': true,
}

for (const point of FAULT_POINTS.store)
  test(`at ${point}`, async ({ path }) => {
    const pass = point.includes('checkpoint') ? '2' : '7'
    const { signal, stdout, stderr } = spawnSync(process.execPath, program(path), {
      env: { ...process.env, TWILL_FAULT: `${point}:${pass}` },
      encoding: 'utf8',
    })
    assert.is(signal, 'SIGKILL', stderr)
    const { found, last } = await judge(path, stdout)
    if (point in DURABLE) assert.is(found > last, DURABLE[point], `answered ${last}, found ${found}`)
    await goesOn(path)
  })

test('at any moment', async ({ path }) => {
  for (let round = 0; round < 3; round++) {
    const child = spawn(process.execPath, program(path), { stdio: ['ignore', 'pipe', 'inherit'] })
    let answered = ''
    child.stdout.on('data', chunk => {
      answered += chunk
      if (answered.split('\n').length > 3 + 12 * round) child.kill('SIGKILL')
    })
    await Promise.all([once(child, 'exit'), once(child.stdout, 'end')])
    await judge(path, answered)
  }
})

test.run()
