/**
 * Runs the tests of one file inside this process and reports to descriptor 3 as a DriverReport.
 *
 * uvu's own totals cannot be trusted: when a `before` hook throws, its runner returns from a `finally` and the
 * error is gone, with zero of N passed and exit status 0. Here what did not pass has failed.
 */
import { writeSync } from 'node:fs'
import { resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import type { DriverReport, SkippedTest } from './run-file.ts'

/** uvu's runner of one suite: [errors or true, passed, skipped, total]. */
type SuiteRun = () => Promise<[string | true, number, number, number]>

interface UvuGlobals {
  UVU_DEFER?: number
  UVU_INDEX?: number
  UVU_QUEUE?: [string, ...SuiteRun[]][]
  /** Filled by test/fixtures/skip.ts. */
  TWILL_SKIPPED?: SkippedTest[]
}

const globals = globalThis as UvuGlobals

async function collect(file: string): Promise<SuiteRun[]> {
  globals.UVU_DEFER = 1
  globals.UVU_INDEX = 0
  globals.UVU_QUEUE = [[file]]
  globals.TWILL_SKIPPED = []
  await import(pathToFileURL(resolve(file)).href)
  const [, ...runs] = globals.UVU_QUEUE[0]!
  return runs
}

async function runAll(runs: SuiteRun[]): Promise<DriverReport> {
  const report: DriverReport = {
    passed: 0,
    failed: 0,
    skipped: [],
    omitted: 0,
    suites: runs.length,
    errors: [],
  }
  for (const run of runs) {
    const [errors, passed, omitted, total] = await run()
    report.passed += passed
    report.failed += total - passed
    report.omitted += omitted
    if (errors !== true) report.errors.push(errors)
    else if (passed < total) report.errors.push('a before hook, or an after hook of each test, threw')
  }
  report.skipped = globals.TWILL_SKIPPED ?? []
  // A test that skips itself returns, and uvu counts it as passed.
  report.passed -= report.skipped.length
  return report
}

const report = await runAll(await collect(process.argv[2]!))
writeSync(3, JSON.stringify(report))
process.exitCode = report.failed > 0 ? 1 : 0
