/**
 * Checks the direction of imports between the folders of the source tree, and that the list names every folder.
 *
 * lib <- kernel, datastore <- ipam, routing, policy <- daemon. Tests, benchmarks and hack may import anything;
 * nothing may import them (test code may import hack's rig).
 */
import { readFileSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path'
import { sourceFiles } from './source-files.ts'

/** What a folder's files may import besides their own folder; a longer path is one subtree of that folder. */
const MAY_IMPORT: Record<string, string[]> = {
  lib: [],
  kernel: ['lib'],
  datastore: ['lib'],
  ipam: ['lib', 'kernel', 'datastore'],
  routing: ['lib', 'kernel', 'datastore', 'ipam'],
  policy: ['lib', 'kernel', 'datastore'],
  // "The daemon uses cni-bin's validation and results"; cni-bin in turn sees only what can run without a daemon.
  'cni-bin': ['lib', 'kernel/netlink', 'kernel/ownership.ts'],
  daemon: ['lib', 'kernel', 'datastore', 'ipam', 'routing', 'policy', 'cni-bin'],
  cli: ['lib', 'kernel', 'datastore', 'ipam', 'policy', 'daemon/api/types.ts'],
}

/** Folders that import what they like. */
const FREE = ['test', 'bench', 'hack']

interface Violation {
  file: string
  imported: string
}

function importsOf(source: string): string[] {
  const statement =
    /\b(?:import|export)\b[^'"`;]*?\bfrom\s*['"]([^'"]+)['"]|\bimport\s*\(?\s*['"]([^'"]+)['"]/g
  return [...source.matchAll(statement)].map(match => (match[1] ?? match[2])!)
}

function mayImport(file: string, imported: string): boolean {
  const folder = file.split('/')[0]!
  if (FREE.includes(folder) || imported.startsWith(`${folder}/`)) return true
  return (MAY_IMPORT[folder] ?? []).some(
    allowed => imported === allowed || imported.startsWith(`${allowed}/`),
  )
}

/** @param source the text of `file`, a path from the root. Only relative imports are judged. */
export function violations(file: string, source: string): Violation[] {
  return importsOf(source)
    .filter(specifier => specifier.startsWith('.'))
    .map(specifier => normalize(join(dirname(file), specifier)))
    .filter(imported => !mayImport(file, imported))
    .map(imported => ({ file, imported }))
}

if (process.argv[1] === import.meta.filename) {
  const files = sourceFiles([...Object.keys(MAY_IMPORT), ...FREE])
  const found = files.flatMap(file => violations(file, readFileSync(file, 'utf8')))
  for (const { file, imported } of found) console.log(`${file} must not import ${imported}`)
  console.log(`import directions: ${files.length} files, ${found.length} violations`)
  process.exit(found.length > 0 || files.length === 0 ? 1 : 0)
}
