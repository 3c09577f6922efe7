/**
 * The address model beyond what CI runs (test/unit/ipam/model):
 *
 *   npm run model -- [--runs N] [--seed S]      N histories on two processors, a few hundred of each seed; the first seed: of the day
 *   npm run model -- --rules [--runs N] [--rule R]  rules left out in turn: each must make its histories, or the tests named
 *                                               for it, fail within N histories of a fixed seed
 *
 * A rule is left out by replacements in the source as it is bundled; each text must occur exactly once, so that a change
 * there fails here rather than leaving in what was to be left out.
 */
import { spawn } from 'node:child_process'
import { mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { build, type Plugin } from 'esbuild'
import { type Edit, HISTORIES, type LeftOut, RULES_LEFT_OUT } from '../test/fixtures/rules-left-out.ts'

/** Below the repository, so that packages are found. */
const OUT = 'node_modules/.cache/twill-model'
const JOBS = 2
/** Kinds of histories, and how many of one seed. */
const KINDS = [
  ['tiny', 500],
  ['tiny-restored', 500],
  ['small', 300],
  ['restored', 300],
  ['large', 100],
] as const
const TIMEOUT_MS = 900_000

const { values } = parseArgs({
  options: {
    runs: { type: 'string' },
    seed: { type: 'string' },
    rules: { type: 'boolean', default: false },
    rule: { type: 'string' },
  },
})

async function bundle(name: string, test: string, leftOut: LeftOut | null): Promise<string> {
  const outfile = join(OUT, `${name}.mjs`)
  await build({
    entryPoints: [test],
    outfile,
    bundle: true,
    platform: 'node',
    format: 'esm',
    packages: 'external',
    logLevel: 'error',
    plugins: leftOut === null ? [] : [replacing(leftOut)],
  })
  return outfile
}

const replacing = ({ edits }: LeftOut): Plugin => ({
  name: 'left-out',
  setup(bundling) {
    for (const file of new Set(edits.map(edit => edit.file))) {
      const filter = new RegExp(`/${file.replaceAll('.', '[.]')}$`)
      bundling.onLoad({ filter }, ({ path }) => {
        const text = edits.filter(edit => edit.file === file).reduce(replaced, readFileSync(path, 'utf8'))
        return { contents: text, loader: 'ts' }
      })
    }
  },
})

function replaced(text: string, { file, without, put }: Edit): string {
  if (text.split(without).length !== 2) throw new Error(`${file} does not have exactly once: ${without}`)
  return text.replace(without, () => put)
}

interface Ended {
  readonly failed: boolean
  readonly output: string
}

function run(file: string, environment: Record<string, string>): Promise<Ended> {
  return new Promise(resolve => {
    const child = spawn(process.execPath, [file], {
      env: { ...process.env, ...environment },
      // What is left out may make it run for ever.
      timeout: TIMEOUT_MS,
      killSignal: 'SIGKILL',
    })
    let output = ''
    for (const stream of [child.stdout, child.stderr])
      stream.on('data', chunk => {
        output += chunk
      })
    child.on('close', code => resolve({ failed: code !== 0, output }))
  })
}

async function histories(runs: number, first: number): Promise<boolean> {
  const files = new Map<string, string>()
  for (const [kind] of KINDS) if (!files.has(kind)) files.set(kind, await bundle(kind, HISTORIES[kind], null))
  const seeds: (readonly [number, string, number])[] = []
  for (let left = runs; left > 0; ) {
    const [kind, count] = KINDS[seeds.length % KINDS.length] as (typeof KINDS)[number]
    seeds.push([first + seeds.length, kind, Math.min(count, left)])
    left -= count
  }
  console.log(`${runs} histories, seeds ${first} to ${first + seeds.length - 1}`)
  let passed = 0
  let failed = 0
  await inTurns(seeds, async ([seed, kind, count]) => {
    const environment = { TWILL_MODEL_SEED: String(seed), TWILL_MODEL_RUNS: String(count) }
    const ended = await run(files.get(kind) ?? '', environment)
    if (ended.failed) {
      failed++
      console.log(`${kind}, seed ${seed}\n${ended.output}`)
    } else passed += count
    console.log(`${passed} histories passed`)
  })
  return failed === 0
}

/** Its name; a file that waits for what never comes after a failure says no names. */
function failedTest(output: string): string | undefined {
  return /FAIL +(?:.*?)"(.*)"/.exec(output)?.[1] ?? (output.includes('✘') ? 'and does not end' : undefined)
}

async function rulesLeftOut(runs: number, only: string | undefined): Promise<boolean> {
  const wanted = RULES_LEFT_OUT.filter(({ rule }) => only === undefined || String(rule) === only)
  let noticed = wanted.length > 0
  await inTurns([...wanted.entries()], async ([i, leftOut]) => {
    const { rule, what, by } = leftOut
    const isModel = by in HISTORIES
    const file = await bundle(
      `left-out-${rule}-${i}`,
      isModel ? HISTORIES[by as keyof typeof HISTORIES] : by,
      leftOut,
    )
    const { failed, output } = await run(file, {
      TWILL_MODEL_SEED: '1',
      TWILL_MODEL_RUNS: String(runs),
      TWILL_MODEL_SHRINK: 'no',
    })
    // Anything else than a failed history, or a failed test, is no proof.
    const proof = isModel ? /failed after (\d+) tests/.exec(output)?.[1] : failedTest(output)
    noticed &&= failed && proof !== undefined
    const outcome =
      proof === undefined ? `NOT NOTICED in ${runs}` : isModel ? `history ${proof}` : `"${proof}"`
    console.log(`rule ${String(rule).padStart(2)} | ${what} | ${by} | ${outcome}`)
  })
  return noticed
}

/** On JOBS processors at once. */
async function inTurns<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  const waiting = [...items]
  const worker = async () => {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) await work(next)
  }
  await Promise.all(Array.from({ length: JOBS }, worker))
}

mkdirSync(OUT, { recursive: true })
// Another one every day, and far from yesterday's.
const today = Math.floor(Date.now() / 86_400_000) * 100_000
const passed = values.rules
  ? await rulesLeftOut(Number(values.runs ?? 2_000), values.rule)
  : await histories(Number(values.runs ?? 100_000), Number(values.seed ?? today))
process.exitCode = passed ? 0 : 1
