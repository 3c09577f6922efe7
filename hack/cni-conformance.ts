/**
 * The third column of docs/cni-conformance.md: which test files name each requirement. Run by itself it writes the
 * page anew; test/unit/hack/cni-conformance.test.ts refuses a page that is not true.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { sourceFiles } from './source-files.ts'

const PAGE = 'docs/cni-conformance.md'
const ROW = /^\| (CNI-\d{3}) \| (.*?) \|(?: (.*?) \|)?$/

/** Requirement → the files that name it, sorted. */
export function namedInTests(files: ReadonlyMap<string, string>): Map<string, string[]> {
  const named = new Map<string, string[]>()
  for (const [file, text] of [...files].sort())
    for (const number of new Set(text.match(/\bCNI-\d{3}\b/g)))
      named.set(number, [...(named.get(number) ?? []), file])
  return named
}

export interface Judged {
  /** The page with the third column as it should be. */
  readonly text: string
  /** Sentences; [] when the page is true. */
  readonly problems: string[]
}

/** Rows of three columns claim a test; rows of two say why none is needed. */
export function judgePage(page: string, named: ReadonlyMap<string, readonly string[]>): Judged {
  const problems: string[] = []
  const listed = new Set<string>()
  const lines = page.split('\n').map(line => {
    const row = ROW.exec(line)
    if (row === null) return line
    const [, number, what, claimed] = row as unknown as [string, string, string, string | undefined]
    if (listed.has(number)) problems.push(`${number} stands twice`)
    listed.add(number)
    const files = named.get(number) ?? []
    if (claimed === undefined) return line
    if (files.length === 0) problems.push(`${number}: no test names it`)
    const names = files.map(short).join(', ')
    if (names !== claimed) problems.push(`${number}: the page says ${claimed}, the tests ${names}`)
    return `| ${number} | ${what} | ${names} |`
  })
  for (const number of named.keys()) if (!listed.has(number)) problems.push(`${number}: not on the page`)
  return { text: lines.join('\n'), problems }
}

/** test/e2e/executable-add.test.ts → e2e/executable-add */
const short = (file: string): string => file.replace(/^test\//, '').replace(/(\.test)?\.ts$/, '')

/** The tests of the working tree, by path. */
export function readTests(): Map<string, string> {
  const files = sourceFiles(['test']).filter(file => !file.endsWith('cni-conformance.test.ts'))
  return new Map(files.map(file => [file, readFileSync(join(import.meta.dirname, '..', file), 'utf8')]))
}

export const readPage = (): string => readFileSync(join(import.meta.dirname, '..', PAGE), 'utf8')

if (process.argv[1] === import.meta.filename) {
  const { text } = judgePage(readPage(), namedInTests(readTests()))
  writeFileSync(join(import.meta.dirname, '..', PAGE), text)
  const { problems } = judgePage(text, namedInTests(readTests()))
  for (const problem of problems) console.log(problem)
  process.exitCode = problems.length === 0 ? 0 : 1
}
