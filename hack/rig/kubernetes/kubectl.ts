/** kubectl as the rig's administrator: in the underlay's network, where the API server is, with the host's files. */
import { join } from 'node:path'
import { lastLines } from '../etcd.ts'
import type { Machine } from '../machine.ts'
import { must, type RunOptions, type RunResult, run } from '../processes.ts'

/** A service whose end makes waiting vain, and whose log says why. */
export interface Culprit {
  machine: Machine
  service: string
}

const logOf = ({ machine, service }: Culprit, count: number): string =>
  `${machine.name}: the end of ${service}.log:\n${lastLines(join(machine.state, `${service}.log`), count)}`

/** @throws Error with the end of its log, if one of them does not run */
export function demandRunning(culprits: readonly Culprit[]): void {
  for (const culprit of culprits)
    if (culprit.machine.servicePid(culprit.service) === undefined)
      throw new Error(`${culprit.machine.name}: ${culprit.service} ended\n${logOf(culprit, 15)}`)
}

export const describeLogs = (culprits: readonly Culprit[]): string =>
  culprits.map(culprit => logOf(culprit, 8)).join('\n')

export class Kubectl {
  readonly #underlay: Machine
  readonly #program: string
  readonly #kubeconfig: string

  constructor(options: { underlay: Machine; bin: string; kubeconfig: string }) {
    this.#underlay = options.underlay
    this.#program = join(options.bin, 'kubectl')
    this.#kubeconfig = options.kubeconfig
  }

  #arguments(args: readonly string[]): string[] {
    const network = ['-t', String(this.#underlay.pid), '-n', '--']
    return [...network, this.#program, '--kubeconfig', this.#kubeconfig, ...args]
  }

  run(args: readonly string[], options: RunOptions = {}): Promise<RunResult> {
    return run('nsenter', this.#arguments(args), { env: this.#underlay.environment, ...options })
  }

  /** @returns what it printed. @throws Error with what it said */
  must(args: readonly string[], input?: string): Promise<string> {
    const options = { env: this.#underlay.environment, ...(input !== undefined && { input }) }
    return must('nsenter', this.#arguments(args), options)
  }

  async json<T>(args: readonly string[]): Promise<T> {
    return JSON.parse(await this.must([...args, '-o', 'json'])) as T
  }

  /**
   * `kubectl wait`, in slices, between which it looks whether the culprits still live.
   * @throws Error naming what it waited for, with the culprits' last words
   */
  async wait(args: readonly string[], timeoutMs: number, culprits: readonly Culprit[] = []): Promise<void> {
    const deadline = performance.now() + timeoutMs
    for (;;) {
      const { status, stderr } = await this.run(['wait', '--timeout=2s', ...args])
      if (status === 0) return
      demandRunning(culprits)
      if (performance.now() > deadline)
        throw new Error(
          `waited in vain: kubectl wait ${args.join(' ')}: ${stderr.trim()}\n${describeLogs(culprits)}`,
        )
    }
  }
}
