/**
 * Runs uvu test files, one process per file, and closes with `N passed, N failed`.
 *
 * Invariant: nothing passes vacuously. No file found, no test in a file, a forgotten `run()`, `.only`,
 * `.skip`, a failing `before` hook (uvu itself lets that pass), a crash after the last test and a process
 * that does not end are all failures.
 * Trap: uvu prints its totals to stdout, where tests print too; results come through file descriptor 3.
 *
 * Usage: run-tests [FOLDER|FILE]...   default: every folder of test/ that holds tests, cheap ones first.
 */
import { availableParallelism } from 'node:os'
import { performance } from 'node:perf_hooks'
import { type FileResult, runFile } from './testing/run-file.ts'
import { findSuites, type Suite } from './testing/suites.ts'

interface Totals {
  passed: number
  failed: number
  skipped: string[]
  broken: FileResult[]
}

/** Most tests with machines wait most of the time: a second file costs the first little. */
const MACHINES_AT_ONCE = 2

/**
 * Files of test/unit touch nothing outside their process, those of test/e2e and test/integration nothing outside
 * machines, servers and folders named after their process: they run side by side. Contracts with the kernel run alone,
 * since they make hostile loads on purpose.
 */
function parallelism(suite: Suite): number {
  const most = Math.max(1, availableParallelism())
  if (/(^|\/)unit(\/|$)/.test(suite.name)) return most
  return /(^|\/)(e2e|integration)(\/|$)/.test(suite.name) ? Math.min(MACHINES_AT_ONCE, most) : 1
}

function report(result: FileResult): void {
  const verdict = result.failed > 0 ? 'FAIL' : 'ok'
  const counts = `${result.passed}/${result.passed + result.failed}`
  console.log(`  ${verdict.padEnd(4)} ${result.file}  ${counts}  ${(result.durationMs / 1000).toFixed(1)} s`)
  if (result.failed === 0) return
  // The reasons first: a log that is kept in part keeps them.
  for (const text of [...result.reasons, result.output])
    if (text !== '') console.log(text.replace(/^/gm, '       '))
}

async function runSuite(suite: Suite, totals: Totals): Promise<void> {
  const started = performance.now()
  console.log(`${suite.name}: ${suite.files.length} files`)
  const queue = [...suite.files]
  const timeoutMs = Number(process.env.TWILL_TEST_TIMEOUT_MS ?? suite.timeoutMs)
  const worker = async () => {
    for (let file = queue.shift(); file !== undefined; file = queue.shift()) {
      const result = await runFile(file, timeoutMs)
      report(result)
      totals.passed += result.passed
      totals.failed += result.failed
      totals.skipped.push(...result.skipped.map(entry => `${file}: ${entry.test}: ${entry.reason}`))
      totals.broken.push(...(result.failed > 0 ? [result] : []))
    }
  }
  await Promise.all(Array.from({ length: parallelism(suite) }, worker))
  console.log(`${suite.name}: ${((performance.now() - started) / 1000).toFixed(1)} s\n`)
}

function close(totals: Totals): void {
  if (totals.broken.length > 0) console.log('failed files:')
  for (const { file, reasons } of totals.broken)
    console.log([`  ${file}`, ...reasons.map(reason => reason.replace(/^/gm, '       '))].join('\n'))
  if (totals.skipped.length > 0) console.log(`skipped:\n${totals.skipped.map(s => `  ${s}`).join('\n')}`)
  const skipped = totals.skipped.length > 0 ? `, ${totals.skipped.length} skipped` : ''
  console.log(`${totals.passed} passed, ${totals.failed} failed${skipped}`)
}

const totals: Totals = { passed: 0, failed: 0, skipped: [], broken: [] }
for (const suite of findSuites(process.argv.slice(2))) {
  if (suite.files.length === 0) {
    console.log(`${suite.name}: no test file`)
    totals.failed += 1
  }
  await runSuite(suite, totals)
}
if (totals.passed + totals.failed + totals.skipped.length === 0) totals.failed += 1
close(totals)
process.exit(totals.failed > 0 ? 1 : 0)
