/** hack/e2e-upstream: Kubernetes' own tests on a rig, and what they came to. Exit status 1 unless every one passed. */
import { asksForHelp, UsageError } from '../rig/grammar.ts'
import { type Invocation, parse, USAGE } from './grammar.ts'
import { summary } from './report.ts'
import { runUpstream } from './run.ts'

const onStep = (what: string, ms: number): void =>
  console.log(`${what.padEnd(52)} ${ms.toFixed(0).padStart(6)} ms`)

async function report({ rig, ...options }: Invocation): Promise<number> {
  const name = process.env.TWILL_CLUSTER ?? 'upstream'
  const up = { nodes: rig.nodes, ...rig.wishes, onStep }
  const { results, durationMs, logs } = await runUpstream({ name, up, ...options })
  onStep(`tests matching ${options.focus}`, durationMs)
  console.log(summary(results))
  if (results.length === 0) console.log('no test ran')
  if (logs !== undefined) console.log(`report and logs: ${logs}`)
  return logs === undefined ? 0 : 1
}

async function main(): Promise<number> {
  try {
    const argv = process.argv.slice(2)
    if (!asksForHelp(argv)) return await report(parse(argv))
    console.log(USAGE)
    return 0
  } catch (error) {
    console.error(error instanceof UsageError ? `${error.message}\n${USAGE}` : (error as Error).message)
    return error instanceof UsageError ? 2 : 1
  }
}

process.exit(await main())
