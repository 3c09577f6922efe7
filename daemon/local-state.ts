/**
 * What this node keeps on disk: one journal, held by one daemon. A damaged journal costs what its damaged lines
 * said and nothing else; the file as it was found is kept for people.
 */
import { copyFile, mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { compact, type IpamJournalRecord, type IpamJournalState, replay } from '../ipam/journal-records.ts'
import { type FileLock, lockFile } from '../kernel/lock.ts'
import type { Clock } from '../lib/clock.ts'
import { messageOf } from '../lib/errors.ts'
import type { Log } from '../lib/log.ts'
import { Journal, readJournal } from './journal/journal.ts'
import {
  type Attachment,
  type JournalRecord,
  type JournalState,
  type Lease,
  type NodeIdentity,
  replayAttachment,
  replayJournal,
  replayLease,
} from './journal/records.ts'

/** The journal is written anew when it is this long, and four times as long as what it says. */
const COMPACT_BYTES = 512 * 1024

export interface LocalStateOptions {
  readonly stateDir: string
  readonly boot: string
  /** Releases older than this no longer matter. */
  readonly coolDownMs: number
}

export class LocalState {
  readonly #options: LocalStateOptions
  readonly #modules: { readonly clock: Clock; readonly log: Log }
  readonly #journal: Journal
  #ipam: IpamJournalRecord[]
  #node: NodeIdentity | null
  #tunnel: JournalState['tunnel']
  /** 0: not since the start, so that many starts do not let it grow. */
  #compactedLength = 0
  readonly #attachments: Map<string, Attachment>
  readonly #leases: Map<string, Lease>
  /** As read at start. */
  readonly found: JournalState
  readonly intact: boolean

  private constructor(
    options: LocalStateOptions,
    modules: { clock: Clock; log: Log },
    journal: Journal,
    found: JournalState,
    intact: boolean,
  ) {
    this.#options = options
    this.#modules = modules
    this.#journal = journal
    this.found = found
    this.intact = intact
    this.#ipam = [...found.ipam]
    this.#node = found.node
    this.#tunnel = found.tunnel
    this.#attachments = new Map(found.attachments)
    this.#leases = new Map(found.leases)
  }

  /** @throws journal.damaged, journal.write-failed */
  static async open(options: LocalStateOptions, modules: { clock: Clock; log: Log }): Promise<LocalState> {
    const path = join(options.stateDir, 'journal')
    const contents = await readJournal(path)
    const found = replayJournal(contents.records)
    const intact = contents.damaged.length === 0 && found.refused.length === 0
    if (!intact) {
      const kept = `${path}.damaged-${modules.clock.realtimeMs()}`
      await copyFile(path, kept)
      modules.log.error(
        { path, kept, damaged: contents.damaged, refused: found.refused },
        'the journal is damaged; what can be read is used, the file is kept',
      )
    }
    const goesOn = intact && contents.records.length > 0
    const journal = await (goesOn ? Journal.resume(path) : Journal.create(path, contents.records))
    return new LocalState(options, modules, journal, found, intact)
  }

  get node(): NodeIdentity | null {
    return this.#node
  }

  get tunnel(): JournalState['tunnel'] {
    return this.#tunnel
  }

  ipamState(): IpamJournalState {
    return replay(this.#ipam)
  }

  /** @throws journal.write-failed */
  async append(record: JournalRecord): Promise<void> {
    this.#journal.append(record)
    if (record.t === 'ipam') this.#ipam.push(record.record)
    else if (record.t === 'node') this.#becomeNode(record)
    else if (record.t === 'tunnel') this.#tunnel = { addresses: record.addresses, since: record.since }
    else if (record.t === 'lease' || record.t === 'lease-ended') replayLease(this.#leases, record)
    else replayAttachment(this.#attachments, record)
    this.#compactWhenLong()
  }

  /** A new UID inherits nothing of what another one owned (ADDRESSES.md rule 14). */
  #becomeNode({ uid, name, clusterUid }: NodeIdentity): void {
    if (this.#node !== null && this.#node.uid !== uid) {
      this.#ipam = []
      this.#tunnel = null
    }
    this.#node = { uid, name, clusterUid }
  }

  #compactWhenLong(): void {
    if (this.#journal.length < Math.max(COMPACT_BYTES, 4 * this.#compactedLength)) return
    this.#compactedLength = Number.POSITIVE_INFINITY
    this.#compact()
  }

  #compact(): void {
    this.#journal
      .compact(this.#snapshot())
      .catch(error =>
        this.#modules.log.warn(
          { error: messageOf(error) },
          'the journal could not be written anew; the old one goes on',
        ),
      )
      .finally(() => {
        this.#compactedLength = this.#journal.length
      })
  }

  #snapshot(): JournalRecord[] {
    const { boot, coolDownMs } = this.#options
    this.#ipam = compact(
      replay(this.#ipam),
      { boot, boottimeMs: this.#modules.clock.boottimeMs() },
      coolDownMs,
    )
    return [
      ...(this.#node === null ? [] : [{ t: 'node' as const, ...this.#node }]),
      ...(this.#tunnel === null
        ? []
        : [{ t: 'tunnel' as const, addresses: this.#tunnel.addresses, since: this.#tunnel.since }]),
      ...this.#ipam.map(record => ({ t: 'ipam' as const, record })),
      ...[...this.#attachments.values()].map(attachment => ({ t: 'attach' as const, attachment })),
      ...[...this.#leases.values()].map(lease => ({ t: 'lease' as const, lease })),
    ]
  }

  close(): Promise<void> {
    return this.#journal.close()
  }
}

/**
 * By both folders: a second daemon that was given another run folder would write into the journal of the first.
 * @throws node.already-running
 */
export async function lockNode(runDir: string, stateDir: string): Promise<FileLock> {
  await mkdir(runDir, { recursive: true, mode: 0o700 })
  await mkdir(stateDir, { recursive: true, mode: 0o700 })
  const run = lockFile(join(runDir, 'twilld.lock'))
  try {
    const state = lockFile(join(stateDir, 'twilld.lock'))
    return {
      release() {
        state.release()
        run.release()
      },
    }
  } catch (error) {
    run.release()
    throw error
  }
}
