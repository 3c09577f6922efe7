/**
 * What a run of Kubernetes' own end-to-end suite came to, from ginkgo's JSON report.
 *
 * Invariant: nothing passes vacuously. What is not an `It` counts where it failed (a set-up of the whole suite), and a
 * report that says of the suite as a whole that it failed has a failure even if none of its tests has.
 */

export type TestState = 'passed' | 'failed' | 'skipped'

export interface TestResult {
  /** Containers and leaf, as `--list-tests` shows it. */
  name: string
  state: TestState
  durationMs: number
  /** Why it failed, or skipped itself; '' where it passed. */
  message: string
}

/** Source: github.com/onsi/ginkgo/v2/types: Report, SpecReport, Failure. Times are in nanoseconds. */
interface SuiteReport {
  SuiteSucceeded: boolean
  SpecialSuiteFailureReasons: string[] | null
  SpecReports: SpecReport[] | null
}

interface SpecReport {
  ContainerHierarchyTexts: string[] | null
  LeafNodeType: string
  LeafNodeText: string
  State: string
  RunTime: number
  Failure?: { Message: string; Location?: { FileName?: string; LineNumber?: number } }
}

/** @throws SyntaxError: a report that was cut off. @returns what ran, in the order of names, the suite's own failures last */
export function readReport(text: string): TestResult[] {
  const suites = JSON.parse(text) as SuiteReport[]
  const results = suites.flatMap(suite => suite.SpecReports ?? []).flatMap(resultOf)
  const failed = results.some(({ state }) => state === 'failed')
  return [...results.sort(byName), ...(failed ? [] : suites.flatMap(suiteFailure))]
}

const byName = (a: TestResult, b: TestResult): number => (a.name < b.name ? -1 : 1)

function resultOf(spec: SpecReport): TestResult[] {
  const state = stateOf(spec)
  const isTest = spec.LeafNodeType === 'It'
  // The thousands out of focus, and preparations that went well.
  if (state === undefined || (!isTest && state !== 'failed')) return []
  const name = [...(spec.ContainerHierarchyTexts ?? []), spec.LeafNodeText]
    .filter(text => text !== '')
    .join(' ')
  const durationMs = Math.round(spec.RunTime / 1e6)
  return [
    { name: isTest ? name : `[${spec.LeafNodeType}] ${name}`.trim(), state, durationMs, message: why(spec) },
  ]
}

function stateOf({ State, Failure }: SpecReport): TestState | undefined {
  if (State === 'passed') return 'passed'
  if (State !== 'skipped' && State !== 'pending') return 'failed'
  return Failure === undefined ? undefined : 'skipped'
}

function why({ State, Failure }: SpecReport): string {
  if (State === 'passed') return ''
  const { FileName, LineNumber } = Failure?.Location ?? {}
  const place =
    FileName === undefined ? '' : ` (${FileName.replace(/^.*\/(?=test\/e2e\/)/, '')}:${LineNumber})`
  return `${State}: ${Failure?.Message ?? 'no reason given'}${place}`
}

function suiteFailure(suite: SuiteReport): TestResult[] {
  if (suite.SuiteSucceeded) return []
  const message = suite.SpecialSuiteFailureReasons?.join('; ') || 'no reason given'
  return [{ name: '[suite]', state: 'failed', durationMs: 0, message }]
}

/** One line a test, the slowest last; then what failed and why; then the count, as the project's own tests close. */
export function summary(results: readonly TestResult[]): string {
  const lines = [...results].sort((a, b) => a.durationMs - b.durationMs).map(line)
  const failures = results
    .filter(({ state }) => state === 'failed')
    .map(result => `${result.name}\n${indent(result.message)}`)
  const count = (state: TestState) => results.filter(result => result.state === state).length
  const skipped = count('skipped') > 0 ? `, ${count('skipped')} skipped` : ''
  return [
    ...lines,
    ...(failures.length > 0 ? ['', 'failed:', ...failures] : []),
    `${count('passed')} passed, ${count('failed')} failed${skipped}`,
  ].join('\n')
}

const WORDS: Record<TestState, string> = { passed: 'ok', failed: 'FAIL', skipped: 'skip' }

const line = ({ name, state, durationMs }: TestResult): string =>
  `  ${WORDS[state].padEnd(4)} ${(durationMs / 1000).toFixed(1).padStart(6)} s  ${name}`

const indent = (text: string): string => text.replace(/^/gm, '    ')
