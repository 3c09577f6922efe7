/** spawner.c, compiled and running inside a machine of the rig: executes programs and says how long each took. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface, type Interface } from 'node:readline'
import { ROOT } from '../hack/rig/layout.ts'
import type { Machine } from '../hack/rig/machine.ts'

export interface Job {
  /** Absolute path inside the machine. */
  readonly program: string
  readonly input: string
  /** The whole of it. */
  readonly environment: Readonly<Record<string, string>>
}

export interface Run {
  /** Milliseconds, in the order of the jobs. */
  readonly eachMs: readonly number[]
  readonly outputs: readonly string[]
  readonly totalMs: number
}

/** Compiles bench/NAME.c. @returns the program's path; the same inside machines. @throws Error without a C compiler */
export function compile(name: string): string {
  const folder = join(ROOT, 'dist/bench')
  const program = join(folder, name)
  mkdirSync(folder, { recursive: true })
  execFileSync('cc', ['-O2', '-Wall', '-o', program, join(import.meta.dirname, `${name}.c`)])
  return program
}

export class Spawner {
  readonly #child: ChildProcess
  readonly #lines: AsyncIterator<string>
  readonly #reader: Interface

  constructor(machine: Machine, program: string) {
    this.#child = spawn('nsenter', machine.enter([program]), {
      env: machine.environment,
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    this.#reader = createInterface({ input: this.#child.stdout as NodeJS.ReadableStream })
    this.#lines = this.#reader[Symbol.asyncIterator]()
  }

  /** @param inFlight how many run at once. @throws Error naming the first job that failed */
  async run(jobs: readonly Job[], inFlight = 1): Promise<Run> {
    const text = jobs.map(lineOf).join('')
    this.#child.stdin?.write(`RUN ${jobs.length} ${inFlight}\n${text}`)
    const eachMs: number[] = []
    const outputs: string[] = []
    const failures: string[] = []
    for (;;) {
      const { value, done } = await this.#lines.next()
      if (done) throw new Error('the spawner ended')
      const [first, us, status, output] = (value as string).split('\t') as [string, string, string, string]
      if (first === 'TOTAL') {
        if (failures.length > 0) throw new Error(failures[0])
        return { eachMs, outputs, totalMs: Number(us) / 1000 }
      }
      const index = Number(first)
      eachMs[index] = Number(us) / 1000
      outputs[index] = output
      const { program, environment } = jobs[index] as Job
      if (status !== '0') failures.push(`${program} ${environment.CNI_COMMAND}: exit ${status}: ${output}`)
    }
  }

  end(): void {
    this.#child.stdin?.end()
    this.#reader.close()
  }
}

function lineOf({ program, input, environment }: Job): string {
  const entries = Object.entries(environment).map(([name, value]) => `${name}=${value}`)
  return `${[program, input, ...entries].join('\t')}\n`
}
