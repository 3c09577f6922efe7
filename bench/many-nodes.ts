/**
 * Many nodes that allocate at once, spread over as many processes as there are processors: each node has a connection and
 * a journal of its own; what it shares with others of its process is the processor. They are warm when they begin, as
 * daemons are.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { cpus } from 'node:os'
import { createInterface } from 'node:readline'
import { openNode } from './allocating.ts'

export interface ManyOptions {
  readonly endpoint: string
  /** For the journals. */
  readonly folder: string
  readonly nodes: number
}

const WARM = 20

export class ManyNodes {
  readonly #children: readonly Child[]

  private constructor(children: readonly Child[]) {
    this.#children = children
  }

  static async open({ endpoint, folder, nodes }: ManyOptions): Promise<ManyNodes> {
    const count = Math.min(cpus().length, nodes)
    const first = (process: number) => Math.floor((process * nodes) / count)
    const children = Array.from({ length: count }, (_, i) => {
      return new Child([endpoint, folder, String(first(i)), String(first(i + 1))])
    })
    const many = new ManyNodes(children)
    await Promise.all(children.map(child => child.said('open'))).catch(async error => {
      many.close()
      throw error
    })
    return many
  }

  /** Resolves when each node's addresses stand in etcd. */
  async burst(perNode: number, inFlight: number): Promise<void> {
    for (const child of this.#children) child.tell(`${perNode} ${inFlight}`)
    await Promise.all(this.#children.map(child => child.said('done')))
  }

  close(): void {
    for (const child of this.#children) child.end()
  }
}

class Child {
  readonly #child: ChildProcess
  readonly #lines: AsyncIterator<string>

  constructor(args: readonly string[]) {
    const program = ['--import', 'tsx', import.meta.filename, ...args]
    this.#child = spawn(process.execPath, program, { stdio: ['pipe', 'pipe', 'inherit'] })
    const output = this.#child.stdout as NodeJS.ReadableStream
    this.#lines = createInterface({ input: output })[Symbol.asyncIterator]()
  }

  tell(line: string): void {
    this.#child.stdin?.write(`${line}\n`)
  }

  /** @throws Error: it said something else, or has ended */
  async said(line: string): Promise<void> {
    const { value } = await this.#lines.next()
    if (value !== line) throw new Error(`nodes: ${value ?? 'ended'}, expected ${line}`)
  }

  end(): void {
    this.#child.kill()
  }
}

async function main([endpoint, folder, first, end]: [string, string, string, string]): Promise<void> {
  const numbers = Array.from({ length: Number(end) - Number(first) }, (_, i) => Number(first) + i)
  const nodes = await Promise.all(numbers.map(number => openNode(`n${number}`, endpoint, folder)))
  await Promise.all(nodes.map(node => node.burst('warm', WARM, WARM)))
  console.log('open')
  for await (const line of createInterface({ input: process.stdin })) {
    const [perNode, inFlight] = line.split(' ').map(Number) as [number, number]
    await Promise.all(nodes.map(node => node.burst('burst', perNode, inFlight)))
    console.log('done')
  }
}

if (process.argv[1] === import.meta.filename)
  await main(process.argv.slice(2) as [string, string, string, string])
