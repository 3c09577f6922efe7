/** The pages for people: their links lead somewhere, and files, scripts, settings and commands in them exist. */
import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { parseArguments } from '../../../cli/grammar.ts'
import { SETTINGS, variableOf } from '../../../daemon/config-load.ts'
import { parse as parseCluster } from '../../../hack/rig/grammar.ts'
import { parse as parseKubernetes } from '../../../hack/rig/kubernetes/grammar.ts'

const ROOT = join(import.meta.dirname, '../../..')
const DOCS = readdirSync(join(ROOT, 'docs')).map(name => `docs/${name}`)
const PAGES = ['README.md', 'CONTRIBUTING.md', 'CHANGELOG.md', ...DOCS]
const read = (path: string) => readFileSync(join(ROOT, path), 'utf8')
const texts = new Map(PAGES.map(path => [path, read(path)]))

const found = (pattern: RegExp, from = PAGES) =>
  from.flatMap(page =>
    [...(texts.get(page) ?? '').matchAll(pattern)].map(match => ({ page, text: match[1]! })),
  )

const say = ({ page, text }: { page: string; text: string }) => `${page}: ${text}`

/** As GitHub makes anchors of headings. */
const anchors = (page: string) =>
  [...read(page).matchAll(/^#+ (.*)$/gm)].map(([, heading]) =>
    heading!
      .toLowerCase()
      .replace(/[^\p{L}\p{N} _-]/gu, '')
      .replaceAll(' ', '-'),
  )

const links = found(/\]\(([^)\s]+)\)/g).filter(({ text }) => !/^https?:/.test(text))

function leadsSomewhere({ page, text }: { page: string; text: string }): boolean {
  const [path = '', anchor] = text.split('#')
  const target = path === '' ? page : normalize(join(dirname(page), path))
  return existsSync(join(ROOT, target)) && (anchor === undefined || anchors(target).includes(anchor))
}

test('every link leads to a file, and to a heading in it', () => {
  assert.ok(links.length > 20)
  assert.equal(links.filter(link => !leadsSomewhere(link)).map(say), [])
})

test('every page of docs/ is reached from the architecture or the README', () => {
  const reached = links
    .filter(({ page }) => page === 'README.md' || page === 'docs/architecture.md')
    .map(({ page, text }) => normalize(join(dirname(page), text.split('#')[0]!)))
  assert.equal(
    DOCS.filter(page => !reached.includes(page)),
    [],
  )
})

test('every page of docs/ ends with the questions a reviewer should ask', () => {
  const last = (page: string) => [...texts.get(page)!.matchAll(/^## (.*)$/gm)].at(-1)?.[1]
  assert.equal(
    DOCS.filter(page => last(page) !== 'Questions a reviewer should ask'),
    [],
  )
})

const FILES = execFileSync('find', '. -type f -not -path ./node_modules/* -not -path ./.git/*'.split(' '), {
  cwd: ROOT,
  encoding: 'utf8',
  maxBuffer: 1 << 26,
})
  .split('\n')
  .map(path => path.slice(2))

test('source files named in the pages exist', () => {
  const named = found(/`([\w./-]+\.(?:ts|c|sh|mjs|nft|proto))`/g)
  const missing = named.filter(({ text }) => !FILES.some(file => file === text || file.endsWith(`/${text}`)))
  assert.equal(missing.map(say), [])
})

test('folders named in the pages exist', () => {
  const top = readdirSync(ROOT, { withFileTypes: true })
    .filter(entry => entry.isDirectory())
    .map(entry => entry.name)
  const named = found(/`([\w-]+\/(?:[\w-]+\/)*)`/g).filter(({ text }) => top.includes(text.split('/')[0]!))
  assert.equal(named.filter(({ text }) => !existsSync(join(ROOT, text))).map(say), [])
})

test('the architecture lists every folder', () => {
  const folders = readdirSync(ROOT, { withFileTypes: true })
    .filter(entry => entry.isDirectory() && !/^\.|^(node_modules|dist|docs)$/.test(entry.name))
    .map(entry => entry.name)
  const page = texts.get('docs/architecture.md')!
  assert.equal(
    folders.filter(folder => !page.includes(`| \`${folder}/\` |`)),
    [],
  )
})

test('npm scripts named in the pages exist', () => {
  const { scripts } = JSON.parse(read('package.json')) as { scripts: Record<string, string> }
  const named = found(/npm run ([\w:]+)/g)
  assert.ok(named.length > 5)
  assert.equal(named.filter(({ text }) => !(text in scripts)).map(say), [])
})

test('every setting of the daemon is in the table of operations, and every TWILL_ variable there is one', () => {
  const page = texts.get('docs/operations.md')!
  const rows = [...page.matchAll(/^\| (`.*?) \|/gm)].flatMap(([, cell]) => {
    const names = [...cell!.matchAll(/`([^`]+)`/g)].map(([, name]) => name!)
    const table = names[0]!.slice(0, names[0]!.lastIndexOf('.'))
    return names.map(name => (name.startsWith('.') ? `${table}${name}` : name))
  })
  const paths = SETTINGS.map(({ path }) => path.join('.'))
  assert.equal(
    paths.filter(path => !rows.includes(path)),
    [],
  )
  const known = [...SETTINGS.map(variableOf), 'TWILL_CONFIG']
  const named = found(/\b(TWILL_[A-Z_]+)\b/g, ['docs/operations.md', 'docs/cli.md'])
  assert.equal(named.filter(({ text }) => !known.includes(text)).map(say), [])
})

// ---------------------------------------------------------------- commands

/** Lines of blocks, and words in backticks, that begin with the program. */
function commands(program: string) {
  const inBlocks = found(/```\w*\n([\s\S]*?)```/g).flatMap(({ page, text }) =>
    text.split('\n').map(line => ({ page, text: line.trim() })),
  )
  return [...inBlocks, ...found(/`([^`\n]+)`/g)]
    .map(({ page, text }) => ({ page, text: text.replace(/\s+#.*$|\s{3,}.*$/, '').replaceAll('\\|', '|') }))
    .filter(({ text }) => text.startsWith(`${program} `))
}

/** `a|b` is each, `[c]` is with and without, `...` is nothing. */
function spellings(text: string): string[] {
  const choice = /(?<=^|\s)([a-z\d.]+(?:\|[a-z\d.]+)+)(?=[\s\]]|$)/.exec(text)
  if (choice !== null) return choice[1]!.split('|').flatMap(word => spellings(text.replace(choice[1]!, word)))
  const optional = /\s?\[([^[\]]*)\](?:\.\.\.)?/.exec(text)
  if (optional === null) return [text.replaceAll('...', '')]
  return ['', ` ${optional[1]}`].flatMap(words => spellings(text.replace(optional[0], words)))
}

const wordsOf = (text: string, program: string) => text.slice(program.length).trim().split(/\s+/)

for (const [program, parse, least] of [
  ['hack/cluster', parseCluster, 15],
  ['hack/kubernetes', parseKubernetes, 5],
] as const)
  test(`documented words of ${program} are words of ${program}`, () => {
    const documented = commands(program)
    assert.ok(documented.length > least)
    for (const { page, text } of documented)
      for (const spelling of spellings(text)) {
        const words = wordsOf(spelling, program).map(word => (word === 'N' ? '3' : word))
        try {
          parse(words)
        } catch (error) {
          assert.unreachable(`${page}: ${spelling}: ${(error as Error).message}`)
        }
      }
  })

test('documented commands of twillctl are commands of twillctl', () => {
  const documented = [
    ...commands('twillctl'),
    ...commands('hack/cluster exec node1 -- twillctl').map(({ page, text }) => ({
      page,
      text: text.slice(text.indexOf('twillctl')),
    })),
  ]
  assert.ok(documented.length > 10)
  for (const { page, text } of documented)
    for (const spelling of spellings(text)) {
      // Only pools are drained.
      const kind = spelling.includes('--drain') ? 'ippools' : 'nodes'
      const words = wordsOf(spelling, 'twillctl').map(word => (word === 'KIND' ? kind : word))
      const parsed = parseArguments(words, null)
      assert.is(parsed.type, 'command', `${page}: ${spelling}: ${'message' in parsed ? parsed.message : ''}`)
    }
})

test.run()
