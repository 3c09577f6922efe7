/** The version that the daemon says it has is the one that is released. */
import { readFileSync } from 'node:fs'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { VERSION } from '../../../lib/version.ts'

test('the daemon says the version of package.json', () => {
  const manifest = readFileSync(new URL('../../../package.json', import.meta.url), 'utf8')
  assert.is(VERSION, JSON.parse(manifest).version)
})

test.run()
