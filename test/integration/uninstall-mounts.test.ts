/** What `--uninstall` says of its folders where they are mounts, as in a container whose root file system is read only. */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ROOT } from '../../hack/rig/layout.ts'

const folder = mkdtempSync(join(tmpdir(), 'twill-mounts-'))
test.after(() => rmSync(folder, { recursive: true }))

/** @param prepare shell commands, in a mount namespace of their own and in an empty file system */
function kept(prepare: string): string[] {
  const script = `
const { removeState } = await import(${JSON.stringify(join(ROOT, 'daemon/uninstall/remove-files.ts'))})
const { kept } = await removeState({ stateDir: '${folder}/lib/state', runDir: '${folder}/run' })
console.log(JSON.stringify(kept))`
  const node = [
    '--import',
    join(ROOT, 'node_modules/tsx/dist/loader.mjs'),
    '--input-type=module',
    '-e',
    script,
  ]
  const shell = `set -e; mount -t tmpfs none ${folder}; cd ${folder}; mkdir -p lib/state run; ${prepare}; cd /; exec "$@"`
  const words = ['--mount', '/bin/sh', '-c', shell, 'sh', process.execPath, ...node]
  return JSON.parse(execFileSync('unshare', words, { encoding: 'utf8' }))
}

test('a folder that is a mount stays, and is called one', () => {
  const mounted = 'mount -t tmpfs none lib/state; mount -t tmpfs none run'
  const both = [`${folder}/lib/state: it is a mount`, `${folder}/run: it is a mount`]
  assert.equal(kept(mounted), both)
  assert.equal(kept(`${mounted}; mount -o remount,ro ${folder}`), both, 'what is around it is read only')
})

test('what lies in a read-only file system and is no mount is not called one', () => {
  assert.equal(kept(`mount -t tmpfs none run; mount -o remount,ro ${folder}`), [
    `${folder}/lib/state: it lies in a read-only file system`,
    `${folder}/run: it is a mount`,
  ])
})

test.run()
