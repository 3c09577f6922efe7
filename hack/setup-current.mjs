/**
 * Exit status 0 if node_modules is what package-lock.json says and its native parts load in this Node. Plain
 * JavaScript, since it runs before anything is installed.
 */
import { closeSync, existsSync, openSync, readFileSync, readSync } from 'node:fs'
import { createRequire } from 'node:module'

const NATIVE = ['raw-socket', 'koffi', 'esbuild', 'netlink']
const require = createRequire(new URL('../package.json', import.meta.url))

function packagesOf(file) {
  return existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')).packages : {}
}

function staleness() {
  const wanted = packagesOf('package-lock.json')
  const present = packagesOf('node_modules/.package-lock.json')
  for (const [path, { version, optional }] of Object.entries(wanted)) {
    if (path === '' || (optional && present[path] === undefined)) continue
    if (present[path]?.version !== version) return `${path}: ${present[path]?.version ?? 'absent'}, not ${version}`
  }
  for (const name of NATIVE) {
    try {
      require(name)
    } catch (error) {
      return `${name} does not load: ${error.message.split('\n')[0]}`
    }
  }
  // bun's program is put in place by its install script.
  return isProgram('node_modules/bun/bin/bun.exe') ? undefined : 'bun is not a program'
}

function isProgram(file) {
  const head = Buffer.alloc(4)
  const descriptor = openSync(file, 'r')
  readSync(descriptor, head)
  closeSync(descriptor)
  return head.toString('latin1') === '\x7fELF'
}

let reason
try {
  reason = staleness()
} catch (error) {
  reason = error.message
}
if (reason !== undefined) console.log(`setup: node_modules: ${reason}`)
process.exit(reason === undefined ? 0 : 1)
