/**
 * Runs one test file in a process of its own and judges what it reported (see driver.ts) and how it ended.
 * The process leads its own group, so that a time-out ends what the test started as well.
 */
import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { performance } from 'node:perf_hooks'
import type { Readable } from 'node:stream'
import { staticFaults } from './static-faults.ts'

export interface SkippedTest {
  test: string
  reason: string
}

/** What driver.ts writes to descriptor 3, once, after the last test. */
export interface DriverReport {
  passed: number
  failed: number
  skipped: SkippedTest[]
  /** Tests left out by `.only` or `.skip`. */
  omitted: number
  suites: number
  /** What uvu says of the failed tests, a text for each suite. */
  errors: string[]
}

export interface FileResult {
  file: string
  passed: number
  /** Failed tests, and one more for each reason why the file as a whole is no proof of anything. */
  failed: number
  skipped: SkippedTest[]
  /** Why the file failed: what uvu said of its tests, then what speaks against the file as a whole. */
  reasons: string[]
  /** What the tests printed. */
  output: string
  durationMs: number
}

interface Ending {
  report: DriverReport | undefined
  output: string
  code: number | null
  signal: string | null
  timedOut: boolean
}

const root = join(import.meta.dirname, '..', '..')

function runDriver(file: string, timeoutMs: number): Promise<Ending> {
  const tsx = join(root, 'node_modules/tsx/dist/loader.mjs')
  const args = ['--import', tsx, join(import.meta.dirname, 'driver.ts'), file]
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe', 'pipe'], detached: true })
  let output = ''
  let reported = ''
  let timedOut = false
  for (const stream of [child.stdout, child.stderr]) {
    stream!.on('data', (chunk: Buffer) => {
      output += chunk.toString()
    })
  }
  const reports = child.stdio[3] as Readable
  reports.on('data', (chunk: Buffer) => {
    reported += chunk.toString()
  })
  const timer = setTimeout(() => {
    timedOut = true
    endGroup(child.pid!)
  }, timeoutMs)
  return new Promise(resolve => {
    // 'exit', not 'close': a process that the test left behind may hold the pipes for ever.
    child.once('exit', (code, signal) => {
      clearTimeout(timer)
      setTimeout(() => {
        for (const stream of [child.stdout!, child.stderr!, reports]) stream.destroy()
        resolve({ report: parseReport(reported), output, code, signal, timedOut })
      }, 20)
    })
  })
}

function endGroup(pid: number): void {
  try {
    process.kill(-pid, 'SIGKILL')
  } catch {
    // The group ended by itself in this very moment.
  }
}

function parseReport(text: string): DriverReport | undefined {
  return text === '' ? undefined : (JSON.parse(text) as DriverReport)
}

function faultsOf(ending: Ending, timeoutMs: number): string[] {
  if (ending.timedOut) {
    const when = ending.report === undefined ? '' : ' although its tests had ended'
    return [`did not end within ${timeoutMs / 1000} s${when}`]
  }
  if (ending.report === undefined) {
    return [`ended before its tests did (exit ${ending.code ?? ending.signal})`]
  }
  const faults: string[] = []
  const { report } = ending
  if (report.suites === 0) faults.push('never called run()')
  else if (report.passed + report.failed + report.skipped.length === 0) faults.push('holds no test')
  if (report.omitted > 0) faults.push(`${report.omitted} tests left out by .only or .skip`)
  if (report.failed === 0 && ending.code !== 0) faults.push(`exit ${ending.code ?? ending.signal}`)
  return faults
}

/** @param file path from the working directory. Never rejects for what the file does. */
export async function runFile(file: string, timeoutMs: number): Promise<FileResult> {
  const started = performance.now()
  const ending = await runDriver(file, timeoutMs)
  const faults = [...staticFaults(readFileSync(file, 'utf8')), ...faultsOf(ending, timeoutMs)]
  return {
    file,
    passed: ending.report?.passed ?? 0,
    failed: (ending.report?.failed ?? 0) + faults.length,
    skipped: ending.report?.skipped ?? [],
    reasons: [...(ending.report?.errors ?? []).map(text => text.trim()), ...faults],
    output: ending.output.trim(),
    durationMs: performance.now() - started,
  }
}
