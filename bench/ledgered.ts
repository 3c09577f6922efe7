/**
 * How many addresses stand in the ledgers, told by etcd's watch as they come: the far end of an allocation. The watch is a
 * process of its own in the network of the rig's underlay, where etcd is.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { EtcdStore } from '../datastore/etcd/store.ts'
import { PREFIX } from '../datastore/keys.ts'
import { Mirror } from '../datastore/mirror.ts'
import type { LedgerRecord } from '../datastore/records/ledger.ts'
import { ETCD_URL, ROOT } from '../hack/rig/layout.ts'
import type { Machine } from '../hack/rig/machine.ts'
import { systemClock } from '../lib/clock.ts'
import { silentLog } from '../lib/log.ts'
import { systemRandom } from '../lib/random.ts'

export class LedgerCount {
  readonly #child: ChildProcess
  #count = -1
  #told = () => {}
  #ended = false

  constructor(underlay: Machine) {
    const loader = join(ROOT, 'node_modules/tsx/dist/loader.mjs')
    const program = [process.execPath, '--import', loader, import.meta.filename]
    this.#child = spawn('nsenter', underlay.enter(program), {
      env: underlay.environment,
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    createInterface({ input: this.#child.stdout as NodeJS.ReadableStream }).on('line', line => {
      this.#count = Number(line)
      this.#told()
    })
    this.#child.once('exit', () => {
      this.#ended = true
      this.#told()
    })
  }

  get count(): number {
    return this.#count
  }

  /** Resolves when so many stand there, or more. @throws Error: the watch has ended */
  async reach(count: number): Promise<void> {
    while (this.#count < count) {
      if (this.#ended) throw new Error('the watch of the ledgers has ended')
      await new Promise<void>(resolve => {
        this.#told = resolve
      })
    }
  }

  end(): void {
    this.#child.kill()
  }
}

const sizeOf = (text: string): number =>
  Object.values((JSON.parse(text) as LedgerRecord).generations)
    .map(entries => Object.keys(entries).length)
    .reduce((a, b) => a + b, 0)

/** Prints the sum at first, and whenever it changes. */
function main(): void {
  const modules = { clock: systemClock, random: systemRandom, log: silentLog }
  const store = new EtcdStore({ endpoints: [ETCD_URL] }, modules)
  let sum = 0
  const print = () => process.stdout.write(`${sum}\n`)
  const ledgers = new Mirror<number>(
    {
      prefix: PREFIX.ledgers,
      parse: sizeOf,
      onChange: changes => {
        for (const { before, after } of changes) sum += (after?.value ?? 0) - (before?.value ?? 0)
        print()
      },
    },
    { store, log: silentLog },
  )
  void ledgers.synced().then(print)
}

if (process.argv[1] === import.meta.filename) main()
