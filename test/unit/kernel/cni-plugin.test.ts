/** Other people's plugins, asked what they speak: whatever they do, there is an answer or a reason, and soon. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { pluginVersions } from '../../../kernel/cni-plugin.ts'
import { isTwillError } from '../../../lib/errors.ts'

const folder = mkdtempSync(join(tmpdir(), 'twsp-'))
test.after(() => rmSync(folder, { recursive: true }))

function program(text: string, mode = 0o755): string {
  const path = join(folder, 'plugin with spaces; and "quotes')
  writeFileSync(path, `#!/bin/sh\n${text}\n`, { mode })
  return path
}

async function refusal(path: string, patienceMs?: number): Promise<string> {
  try {
    return `accepted: ${await pluginVersions(path, patienceMs)}`
  } catch (error) {
    assert.ok(isTwillError(error, 'kernel.failed'), String(error))
    return (error as Error).message.replace(path, 'PLUGIN')
  } finally {
    rmSync(path, { force: true })
  }
}

test('CNI-180 it is asked with VERSION, a configuration, and nothing of our environment', async () => {
  process.env.TWILL_NOT_FOR_OTHERS = 'secret'
  const path = program(
    `read -r config; [ "$config" ] || exit 9; echo "{\\"supportedVersions\\":[\\"$CNI_COMMAND\\",\\"$TWILL_NOT_FOR_OTHERS\\",\\"$(echo $PWD)\\"]}"`,
  )
  try {
    // Without a newline at its end read says no, and has read it all the same.
    assert.equal(await pluginVersions(path), ['VERSION', '', '/'])
  } finally {
    delete process.env.TWILL_NOT_FOR_OTHERS
    rmSync(path)
  }
})

test('one that hangs, fails, is no program, says nothing, or too much', async () => {
  assert.is(await refusal(program('exec sleep 60'), 200), 'PLUGIN does not answer VERSION within 0.2 s')
  assert.is(await refusal(program('exit 3')), 'PLUGIN ends with status 3 when asked for VERSION')
  assert.match(await refusal(program('true', 0o644)), /PLUGIN cannot be run: .*EACCES/)
  assert.match(await refusal(join(folder, 'none')), /cannot be run: .*ENOENT/)
  assert.match(await refusal(program('cat /dev/zero')), /PLUGIN cannot be run: .*maxBuffer/)
  const none = 'PLUGIN does not say which versions of CNI it speaks'
  for (const answer of ['', 'null', '7', '{}', '{"supportedVersions":"1.0.0"}', '{"supportedVersions":[1]}'])
    assert.is(await refusal(program(`echo '${answer}'`)), none, answer)
})

test.run()
