/**
 * Watches of several collections as one: a snapshot once all of them have theirs, and again when one of them lists anew.
 * Events come in order within each collection, not across them; the revision that is told with them never goes back.
 */
import { compareAsBytes } from '../keys.ts'
import type { KeyValue, Watch, WatchMessage } from '../store.ts'

type Listener = (message: WatchMessage) => void

interface Part {
  readonly watch: Watch
  readonly entries: Map<string, KeyValue>
  isKnown: boolean
  failure: string | null
}

export class CombinedWatch implements Watch {
  readonly #listener: Listener
  readonly #parts: Part[]
  #revision = 0
  #connected: boolean | null = null

  constructor(open: readonly ((listener: Listener) => Watch)[], listener: Listener) {
    this.#listener = listener
    this.#parts = open.map(each => {
      const part: Part = {
        watch: each(message => this.#receive(part, message)),
        entries: new Map(),
        isKnown: false,
        failure: 'not connected yet',
      }
      return part
    })
  }

  async close(): Promise<void> {
    await Promise.all(this.#parts.map(({ watch }) => watch.close()))
  }

  #receive(part: Part, message: WatchMessage): void {
    if (message.type === 'connection') this.#connection(part, message)
    else this.#follow(part, message)
  }

  #follow(part: Part, message: Exclude<WatchMessage, { type: 'connection' }>): void {
    this.#revision = Math.max(this.#revision, message.revision)
    if (message.type === 'snapshot') this.#snapshot(part, message.entries)
    else this.#events(part, message)
  }

  #events(part: Part, message: Extract<WatchMessage, { type: 'events' }>): void {
    for (const { key, value, modRevision } of message.events)
      if (value === null) part.entries.delete(key)
      else part.entries.set(key, { key, value, modRevision })
    if (this.#isKnown()) this.#listener({ ...message, revision: this.#revision })
  }

  #snapshot(part: Part, entries: readonly KeyValue[]): void {
    part.isKnown = true
    part.entries.clear()
    for (const entry of entries) part.entries.set(entry.key, entry)
    if (!this.#isKnown()) return
    const all = this.#parts.flatMap(each => [...each.entries.values()])
    all.sort((a, b) => compareAsBytes(a.key, b.key))
    this.#listener({ type: 'snapshot', entries: all, revision: this.#revision })
  }

  #connection(part: Part, { connected, reason }: Extract<WatchMessage, { type: 'connection' }>): void {
    part.failure = connected ? null : reason
    const failed = this.#parts.find(({ failure }) => failure !== null)
    // What has not failed and is not there yet will say one or the other.
    if (connected && failed !== undefined) return
    if (this.#connected === (failed === undefined)) return
    this.#connected = failed === undefined
    this.#listener({ type: 'connection', connected: this.#connected, reason: failed?.failure ?? null })
  }

  #isKnown(): boolean {
    return this.#parts.every(({ isKnown }) => isKnown)
  }
}
