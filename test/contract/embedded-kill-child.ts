/** Writes into the embedded store whose path is the first argument, says what was answered; dies where TWILL_FAULT says. */
import { writeSync } from 'node:fs'
import * as files from 'node:fs/promises'
import { EmbeddedDatabase } from '../../datastore/embedded/database.ts'
import { silentLog } from '../../lib/log.ts'

const path = process.argv[2] as string
const database = await EmbeddedDatabase.open({ path, compactBytes: 600 }, { files, log: silentLog })
const expected = (key: string) => database.state.get(key)?.modRevision ?? 0
for (let i = 1; i <= 40; i++) {
  // Two keys change in one frame: after a crash both did or neither.
  await Promise.all(
    ['one', 'two'].map(key => database.commit({ key, expected: expected(key), value: String(i) }, null)),
  )
  writeSync(1, `${i} ${database.state.revision}\n`)
}
