/** Running programs, and finding those of a rig again by the mark in their environment. */
import { spawn } from 'node:child_process'
import { closeSync, openSync, readdirSync, readFileSync } from 'node:fs'
import { MARK } from './layout.ts'

export interface RunOptions {
  input?: string
  /** Replaces the environment. */
  env?: Record<string, string | undefined>
  /** Pass the terminal through instead of collecting output. */
  inherit?: boolean
  timeoutMs?: number
}

export interface RunResult {
  /** 128 + signal number is not used: a program ended by a signal has status 255. */
  status: number
  stdout: string
  stderr: string
}

/** Runs a program to its end. Rejects only if it cannot be started. */
export function run(command: string, args: string[], options: RunOptions = {}): Promise<RunResult> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      env: options.env ?? process.env,
      stdio: options.inherit ? 'inherit' : 'pipe',
      ...(options.timeoutMs === undefined ? {} : { timeout: options.timeoutMs, killSignal: 'SIGKILL' }),
    })
    const chunks = { stdout: [] as Buffer[], stderr: [] as Buffer[] }
    child.stdout?.on('data', (chunk: Buffer) => chunks.stdout.push(chunk))
    child.stderr?.on('data', (chunk: Buffer) => chunks.stderr.push(chunk))
    // A program that ends without reading its input is no error of ours.
    child.stdin?.on('error', () => {})
    child.stdin?.end(options.input ?? '')
    child.once('error', reject)
    child.once('close', code =>
      resolve({
        status: code ?? 255,
        stdout: Buffer.concat(chunks.stdout).toString(),
        stderr: Buffer.concat(chunks.stderr).toString(),
      }),
    )
  })
}

/** @throws Error with the program's own words if its exit status is not 0 */
export async function must(command: string, args: string[], options: RunOptions = {}): Promise<string> {
  const result = await run(command, args, options)
  if (result.status !== 0) {
    const said = (result.stderr || result.stdout).trim()
    throw new Error(`${command} ${args.join(' ')}: exit ${result.status}: ${said}`)
  }
  return result.stdout
}

/** Starts a program that outlives this one. @returns its process id */
export function start(command: string, args: string[], env: Record<string, string>, log: string): number {
  const output = openSync(log, 'a', 0o600)
  try {
    const child = spawn(command, args, { env, stdio: ['ignore', output, output], detached: true, cwd: '/' })
    child.unref()
    if (child.pid === undefined) throw new Error(`${command} cannot be started`)
    return child.pid
  } finally {
    closeSync(output)
  }
}

export const alive = (pid: number): boolean => isLive(`/proc/${pid}/status`)

/**
 * A program of many threads that was killed is a zombie while some of them end, and its ports are taken until the last has.
 * @param status a process's `status` file, in whichever /proc. @throws Error if it cannot be read for any other reason than its end
 */
export function isLive(status: string): boolean {
  try {
    const text = readFileSync(status, 'utf8')
    return !/^State:\s+[ZX]/m.test(text) || /^Threads:\s+(?![01]$)/m.test(text)
  } catch (error) {
    if (['ENOENT', 'ESRCH'].includes((error as NodeJS.ErrnoException).code ?? '')) return false
    throw error
  }
}

function environmentOf(pid: string): string {
  try {
    return `\0${readFileSync(`/proc/${pid}/environ`, 'latin1')}`
  } catch {
    // It ended meanwhile, or is a kernel thread.
    return ''
  }
}

function ancestors(): Set<number> {
  const found = new Set<number>()
  for (let pid = process.pid; pid > 0 && !found.has(pid); ) {
    found.add(pid)
    const parent = /^PPid:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))
    pid = Number(parent?.[1] ?? 0)
  }
  return found
}

/** @returns process ids that carry this cluster's mark, without this process and those that called it */
export function markedProcesses(cluster: string): number[] {
  const mark = `\0${MARK}=${cluster}\0`
  const own = ancestors()
  return readdirSync('/proc')
    .filter(name => /^\d+$/.test(name))
    .filter(name => environmentOf(name).includes(mark))
    .map(Number)
    .filter(pid => !own.has(pid) && alive(pid))
}

/** SIGCONT, whether or not it was stopped; it may have ended meanwhile. */
export function wake(pid: number): void {
  try {
    process.kill(pid, 'SIGCONT')
  } catch {
    // Gone.
  }
}

/** Ends these processes at once and waits until they are gone. @throws Error naming one that stays */
export async function end(pids: number[], timeoutMs = 30_000): Promise<void> {
  for (const pid of pids) {
    try {
      process.kill(pid, 'SIGKILL')
    } catch {
      // Gone meanwhile.
    }
  }
  await until(
    () => pids.every(pid => !alive(pid)),
    timeoutMs,
    () => `process ${pids.find(alive)} does not end`,
  )
}

/** Polls. @throws Error with `complaint` after `timeoutMs` */
export async function until(
  condition: () => boolean | Promise<boolean>,
  timeoutMs: number,
  complaint: () => string,
  pauseMs = 10,
): Promise<void> {
  const deadline = performance.now() + timeoutMs
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(complaint())
    await new Promise(resolve => setTimeout(resolve, pauseMs))
  }
}

export type OnStep = (what: string, durationMs: number) => void

export type Step = (what: string, work: () => Promise<unknown>) => Promise<void>

/** @returns a function that does a piece of work and tells how long it took */
export function stepTimer(onStep: OnStep | undefined): Step {
  return async (what, work) => {
    const begin = performance.now()
    await work()
    onStep?.(what, performance.now() - begin)
  }
}
