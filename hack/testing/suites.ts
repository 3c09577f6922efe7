/**
 * Finds test files. A suite is one argument (a folder or a file) or, without arguments, one folder of test/.
 * A name that matches nothing is a suite without files, so that a typing error fails the run.
 */
import { existsSync, readdirSync, statSync } from 'node:fs'
import { join, relative } from 'node:path'

export interface Suite {
  name: string
  files: string[]
  /** Of each file: one that takes longer is ended. */
  timeoutMs: number
}

const TIMEOUT_MS = 480_000

/** A file of these may run a whole suite of Kubernetes' own: minutes on a quiet machine, several times that on a busy one. */
const KUBERNETES_TIMEOUT_MS = 1_500_000

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

function filesOf(argument: string, name: string): string[] {
  if (statSync(argument).isDirectory()) return testFilesBelow(name)
  return isTest(argument) ? [name] : []
}

function suiteOf(argument: string): Suite {
  const name = relative('.', argument) || '.'
  const timeoutMs = /(^|\/)kubernetes(\/|$)/.test(name) ? KUBERNETES_TIMEOUT_MS : TIMEOUT_MS
  return { name, files: existsSync(argument) ? filesOf(argument, name) : [], timeoutMs }
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
