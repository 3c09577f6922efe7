/** Programs of this machine with what the loader wants for them, as an image needs them. */
import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import type { Contents } from './contents.ts'

const FOLDERS = ['/usr/local/sbin', '/usr/local/bin', '/usr/sbin', '/usr/bin', '/sbin', '/bin']

/** @returns where it is on this machine. @throws Error naming it */
export function findProgram(name: string): string {
  const found = execFileSync('sh', ['-c', 'command -v -- "$1" || :', 'sh', name], {
    encoding: 'utf8',
    env: { PATH: FOLDERS.join(':') },
  }).trim()
  if (found === '') throw new Error(`${name} is not on this machine: run hack/setup`)
  return found
}

/**
 * Shared libraries of a program or library and the loader, at the very paths where the loader finds them; nothing for
 * what is linked statically. Trap: what is opened at run time (dlopen) is in no list.
 * @throws Error: a library that is not on this machine
 */
export function librariesOf(path: string): Contents {
  const listed = ldd(path)
  const missing = /^\s*(\S+) => not found/m.exec(listed)
  if (missing !== null) throw new Error(`${path}: ${missing[1]} is not on this machine`)
  const paths = [...listed.matchAll(/^\s*(?:\S+ => )?(\/\S+) \(0x/gm)].map(match => match[1]!)
  return Object.fromEntries(paths.map(library => [library, { file: library }]))
}

function ldd(path: string): string {
  try {
    return execFileSync('ldd', [path], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })
  } catch (error) {
    const { stdout, stderr } = error as { stdout: string; stderr: string }
    if (/not a dynamic executable|statically linked/.test(`${stdout}${stderr}`)) return ''
    throw error
  }
}

/** These programs in one folder of the image, and their libraries. */
export function programs(names: readonly string[], folder: string): Contents {
  const found = names.map(name => ({ name, path: findProgram(name) }))
  return {
    ...Object.assign({}, ...found.map(({ path }) => librariesOf(path))),
    ...Object.fromEntries(found.map(({ name, path }) => [join(folder, name), { file: path }])),
  }
}
