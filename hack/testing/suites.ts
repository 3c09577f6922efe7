/**
 * Finds test files. A suite is one argument (a folder or a file) or, without arguments, one folder of test/.
 * A name that matches nothing is a suite without files, so that a typing error fails the run.
 */
import { existsSync, readdirSync, statSync } from 'node:fs'
import { join, relative } from 'node:path'

export interface Suite {
  name: string
  files: string[]
}

/** Cheapest first: a broken unit should be known before the machine builds a cluster. */
const ORDER = ['unit', 'golden', 'contract', 'integration', 'e2e']

const isTest = (name: string) => /\.test\.ts$/.test(name)

function testFilesBelow(folder: string): string[] {
  const entries = readdirSync(folder, { recursive: true, encoding: 'utf8' })
  return entries
    .filter(isTest)
    .map(name => join(folder, name))
    .sort()
}

function suiteOf(argument: string): Suite {
  const name = relative('.', argument) || '.'
  if (!existsSync(argument)) return { name, files: [] }
  if (statSync(argument).isDirectory()) return { name, files: testFilesBelow(name) }
  return { name, files: isTest(argument) ? [name] : [] }
}

export function findSuites(given: string[]): Suite[] {
  if (given.length > 0) return given.map(suiteOf)
  const folders = readdirSync('test', { withFileTypes: true })
    .filter(entry => entry.isDirectory())
    .map(entry => entry.name)
  const rank = (name: string) => (ORDER.indexOf(name) + ORDER.length + 1) % (ORDER.length + 1)
  folders.sort((a, b) => rank(a) - rank(b))
  return folders.map(name => suiteOf(join('test', name))).filter(suite => suite.files.length > 0)
}
