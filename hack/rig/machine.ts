/**
 * A machine of the rig: net, mount, uts, ipc and pid namespaces held by one tiny process (node-init.sh). Ending that
 * process ends, by the kernel, every process in the machine, its mounts and its interfaces; the state folder stays.
 */
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { MARK, ROOT } from './layout.ts'
import {
  alive,
  end,
  isLive,
  markedProcesses,
  must,
  type RunOptions,
  type RunResult,
  run,
  start,
  until,
  wake,
} from './processes.ts'

export class Machine {
  readonly name: string
  /** Folder for what survives a stop. */
  readonly state: string
  readonly #cluster: string

  constructor(options: { name: string; cluster: string; rigFolder: string }) {
    this.name = options.name
    this.#cluster = options.cluster
    this.state = join(options.rigFolder, options.name)
  }

  /** The holder's process id as the host sees it. @throws Error if the machine is not running */
  get pid(): number {
    const pid = this.#readPid()
    if (pid === undefined) throw new Error(`${this.name} is not running`)
    return pid
  }

  get running(): boolean {
    return this.#readPid() !== undefined
  }

  #readPid(): number | undefined {
    const file = join(this.state, 'init.pid')
    if (!existsSync(file)) return undefined
    const pid = Number(readFileSync(file, 'utf8'))
    if (!alive(pid)) return undefined
    return this.#isHolder(pid) ? pid : undefined
  }

  /** Process ids are reused: the holder is known by its mark and its command. */
  #isHolder(pid: number): boolean {
    try {
      const environment = readFileSync(`/proc/${pid}/environ`, 'latin1')
      const command = readFileSync(`/proc/${pid}/cmdline`, 'latin1')
      return environment.includes(`${MARK}=${this.#cluster}\0`) && command.includes(`\0${this.state}\0`)
    } catch {
      // It ended between two looks.
      return false
    }
  }

  /** The mark and nothing of the caller's own settings: twilld refuses TWILL_* variables that it does not know. */
  get environment(): Record<string, string> {
    const path = `${join(ROOT, 'dist/bin')}:${join(process.execPath, '..')}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin`
    return { PATH: path, HOME: '/root', LANG: 'C.UTF-8', [MARK]: this.#cluster }
  }

  /** Does nothing if it runs. */
  async up(): Promise<void> {
    if (this.running) return
    mkdirSync(this.state, { recursive: true, mode: 0o700 })
    rmSync(join(this.state, 'init.pid'), { force: true })
    const unshare = ['--net', '--mount', '--uts', '--ipc', '--pid', '--fork', '--kill-child']
    const init = ['sh', join(import.meta.dirname, 'node-init.sh'), this.name, this.state]
    const log = join(this.state, 'init.log')
    const args = [...unshare, '--propagation', 'private', '--', ...init]
    const pid = start('unshare', args, this.environment, log)
    await until(
      () => {
        if (!alive(pid)) throw new Error(`${this.name}: ${readFileSync(log, 'utf8').trim()}`)
        return this.running
      },
      10_000,
      () => `${this.name} does not come up: ${readFileSync(log, 'utf8').trim()}`,
    )
  }

  /** Ends every process in it; interfaces and mounts go with them. Does nothing if it is not running. */
  async down(): Promise<void> {
    const pid = this.#readPid()
    // nsenter stops itself with a child that was stopped, and a stopped parent never reaps: the machine would not end.
    for (const each of markedProcesses(this.#cluster)) wake(each)
    if (pid !== undefined) await end([pid])
    rmSync(join(this.state, 'init.pid'), { force: true })
  }

  /** A path inside the machine, as the host can open it. Absolute symbolic links on the way would lead astray. */
  path(inside: string): string {
    return `/proc/${this.pid}/root${inside}`
  }

  /** A folder that is the machine's alone (node-init.sh says which), as the host has it, whether or not the machine runs. */
  disk(inside: string): string {
    return join(this.state, 'own', inside)
  }

  /** Arguments of `nsenter` that run this command inside. */
  enter(command: string[]): string[] {
    return ['-t', String(this.pid), '-n', '-m', '-u', '-i', '-p', '--', ...command]
  }

  run(command: string[], options: RunOptions = {}): Promise<RunResult> {
    return run('nsenter', this.enter(command), { env: this.environment, ...options })
  }

  /** @throws Error with the command's own words if its exit status is not 0 */
  must(command: string[], options: RunOptions = {}): Promise<string> {
    return must('nsenter', this.enter(command), { env: this.environment, ...options })
  }

  /** Runs lines of `sh`, stopping at the first that fails. */
  script(lines: string): Promise<string> {
    return this.must(['sh', '-eu'], { input: lines })
  }

  /** Starts a service inside that outlives this process; returns when its own process id is in /run/NAME.pid. */
  async startService(name: string, command: string[]): Promise<void> {
    const file = this.path(`/run/${name}.pid`)
    rmSync(file, { force: true })
    const launch = ['sh', '-c', `echo $$ >/run/${name}.pid; exec "$@"`, name, ...command]
    start('nsenter', this.enter(launch), this.environment, join(this.state, `${name}.log`))
    await until(
      () => existsSync(file) && readFileSync(file, 'utf8') !== '',
      10_000,
      () => `${this.name}: ${name} does not start`,
    )
  }

  /**
   * Read from the machine's own /proc, without a process of its own: tests poll this, and a look that fails for a
   * reason of its own must not count as the service's end.
   * @returns the service's process id inside, undefined if it does not run
   */
  servicePid(name: string): number | undefined {
    const file = this.path(`/run/${name}.pid`)
    if (!existsSync(file)) return undefined
    const pid = Number(readFileSync(file, 'utf8'))
    return isLive(this.path(`/proc/${pid}/status`)) ? pid : undefined
  }

  /** Sends a signal and waits for the end. @returns false if it was not running */
  async endService(name: string, signal: 'TERM' | 'KILL', timeoutMs = 20_000): Promise<boolean> {
    const pid = this.servicePid(name)
    if (pid === undefined) return false
    await this.run(['kill', `-${signal}`, String(pid)])
    await until(
      () => this.servicePid(name) === undefined,
      timeoutMs,
      () => `${this.name}: ${name} does not end on SIG${signal}`,
    )
    rmSync(this.path(`/run/${name}.pid`), { force: true })
    return true
  }
}
