/** A configuration file that was named and cannot be read is a mistake that says who named it. */
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { readConfigFile } from '../../../daemon/config-file.ts'

const NONE = join(tmpdir(), `twilld-${process.pid}-none.yaml`)

test('the flag comes before the variable', () => {
  const here = import.meta.filename
  assert.is(readConfigFile(here, { TWILL_CONFIG: NONE })?.path, here)
  assert.match(readConfigFile(undefined, { TWILL_CONFIG: here })?.text ?? '', 'readConfigFile')
})

test('one that was named and is not there, or is no file', () => {
  const mistakeOf = (flag: string | undefined, env: NodeJS.ProcessEnv) => {
    try {
      return String(readConfigFile(flag, env)?.path)
    } catch (error) {
      return (error as Error).message
    }
  }
  assert.match(mistakeOf(NONE, {}), new RegExp(`^${NONE}: cannot be read: ENOENT`))
  assert.match(
    mistakeOf(undefined, { TWILL_CONFIG: NONE }),
    /^TWILL_CONFIG: .*none\.yaml: cannot be read: ENOENT/,
  )
  assert.match(mistakeOf(tmpdir(), {}), /: cannot be read: EISDIR/)
})

test.run()
