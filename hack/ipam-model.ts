/**
 * The address model beyond what CI runs (test/unit/ipam/model.test.ts):
 *
 *   npm run model -- [--runs N] [--seed S]    N histories on two processors, 500 of each seed; the first seed: of the day
 *   npm run model -- --rules [--runs N]       rules left out in turn: each must fail within N histories of a fixed seed
 *
 * A rule is left out by a replacement in the source as it is bundled; its text must occur exactly once, so that a change
 * there fails here rather than leaving in what was to be left out.
 */
import { spawn } from 'node:child_process'
import { mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { build, type Plugin } from 'esbuild'
import { type LeftOut, RULES_LEFT_OUT } from '../test/fixtures/rules-left-out.ts'

/** Below the repository, so that packages are found. */
const OUT = 'node_modules/.cache/twill-model'
const JOBS = 2
/** Histories of one seed. */
const CHUNK = 500

const { values } = parseArgs({
  options: {
    runs: { type: 'string' },
    seed: { type: 'string' },
    rules: { type: 'boolean', default: false },
  },
})

async function bundle(name: string, leftOut: LeftOut | null): Promise<string> {
  const outfile = join(OUT, `${name}.mjs`)
  await build({
    entryPoints: ['test/unit/ipam/model.test.ts'],
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

const replacing = ({ file, without, put }: LeftOut): Plugin => ({
  name: 'left-out',
  setup(bundling) {
    const filter = new RegExp(`/${file.replaceAll('.', '[.]')}$`)
    bundling.onLoad({ filter }, ({ path }) => {
      const text = readFileSync(path, 'utf8')
      if (text.split(without).length !== 2) throw new Error(`${file} does not have exactly once: ${without}`)
      return { contents: text.replace(without, () => put), loader: 'ts' }
    })
  },
})

interface Ended {
  readonly failed: boolean
  readonly output: string
}

function run(file: string, environment: Record<string, string>): Promise<Ended> {
  return new Promise(resolve => {
    const child = spawn(process.execPath, [file], { env: { ...process.env, ...environment } })
    let output = ''
    for (const stream of [child.stdout, child.stderr])
      stream.on('data', chunk => {
        output += chunk
      })
    child.on('close', code => resolve({ failed: code !== 0, output }))
  })
}

async function histories(runs: number, seed: number): Promise<boolean> {
  const file = await bundle('model', null)
  const seeds = Array.from({ length: Math.ceil(runs / CHUNK) }, (_, i) => seed + i)
  console.log(`${seeds.length * CHUNK} histories, seeds ${seed} to ${seeds.at(-1)}`)
  let passed = 0
  let failed = 0
  await inTurns(seeds, async next => {
    const ended = await run(file, { TWILL_MODEL_SEED: String(next), TWILL_MODEL_RUNS: String(CHUNK) })
    if (ended.failed) failed++
    else passed++
    if (ended.failed) console.log(ended.output)
    if (ended.failed || passed % 20 === 0) console.log(`${passed * CHUNK} histories passed`)
  })
  return failed === 0
}

async function rulesLeftOut(runs: number): Promise<boolean> {
  let noticed = true
  await inTurns([...RULES_LEFT_OUT.entries()], async ([i, leftOut]) => {
    const file = await bundle(`left-out-${i}`, leftOut)
    const { failed, output } = await run(file, {
      TWILL_MODEL_SEED: '1',
      TWILL_MODEL_RUNS: String(runs),
      TWILL_MODEL_SHRINK: 'no',
    })
    // Anything else than a failed history is no proof.
    const after = /failed after (\d+) tests/.exec(output)?.[1]
    noticed &&= failed && after !== undefined
    const outcome = after === undefined ? `NOT NOTICED in ${runs}` : `fails, history ${after}`
    console.log(`rule ${String(leftOut.rule).padStart(2)} ${outcome}: ${leftOut.what}`)
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
  ? await rulesLeftOut(Number(values.runs ?? 2_000))
  : await histories(Number(values.runs ?? 100_000), Number(values.seed ?? today))
process.exitCode = passed ? 0 : 1
