/**
 * Drains the spool: DELs and GCs that the executable filed while no daemon answered (cni-bin/spool.ts). Before the CNI
 * socket opens, and whenever something appears afterwards. An entry goes only after it was performed; one that
 * cannot be read is set aside under a dot name, kept for people, and reported.
 */
import { type FSWatcher, watch } from 'node:fs'
import { mkdir, readdir, readFile, rename, unlink } from 'node:fs/promises'
import { join } from 'node:path'
import { type GcRequest, parseRequest } from '../../cni-bin/request.ts'
import { decodeSpooled, isSpoolEntry, type SpooledDel } from '../../cni-bin/spool.ts'
import type { Clock, Timer } from '../../lib/clock.ts'
import { messageOf } from '../../lib/errors.ts'
import { collectGarbage, type GcModules } from './gc.ts'

export interface SpoolModules extends GcModules {
  readonly clock: Clock
}

/** A notification may be lost, and an entry that failed is to be tried again. */
const RESCAN_MS = 30_000

export class Spool {
  readonly #folder: string
  readonly #boot: string
  readonly #modules: SpoolModules
  #watcher: FSWatcher | null = null
  #timer: Timer | null = null
  #draining: Promise<void> = Promise.resolve()

  constructor(options: { folder: string; boot: string }, modules: SpoolModules) {
    this.#folder = options.folder
    this.#boot = options.boot
    this.#modules = modules
  }

  /** Resolves when what lay there was taken; watches from then on. */
  async start(): Promise<void> {
    await mkdir(this.#folder, { recursive: true, mode: 0o700 })
    this.#watcher = watch(this.#folder, () => this.#drainSoon())
    await this.#drainSoon()
    this.#rescan()
  }

  stop(): void {
    this.#watcher?.close()
    this.#timer?.cancel()
  }

  #rescan(): void {
    this.#timer = this.#modules.clock.setTimer(RESCAN_MS, () => {
      this.#drainSoon()
      this.#rescan()
    })
  }

  #drainSoon(): Promise<void> {
    this.#draining = this.#draining
      .then(() => this.#drain())
      .catch(error => this.#modules.log.error({ error: messageOf(error) }, 'the spool could not be read'))
    return this.#draining
  }

  async #drain(): Promise<void> {
    const names = (await readdir(this.#folder)).filter(isSpoolEntry).sort()
    for (const name of names) await this.#take(name)
  }

  async #take(name: string): Promise<void> {
    const path = join(this.#folder, name)
    const text = await readFile(path, 'utf8').catch(() => null)
    if (text === null) return
    try {
      await this.#perform(decodeSpooled(text))
      await unlink(path).catch(() => undefined)
    } catch (error) {
      this.#modules.log.error(
        { entry: name, error: messageOf(error) },
        'a spooled request could not be performed',
      )
      if (!isWorthAnotherTry(error)) await rename(path, join(this.#folder, `.refused-${name}`))
    }
  }

  async #perform(spooled: SpooledDel): Promise<void> {
    const request = parseRequest(spooled.request, { ownNetns: null, stdinFailure: null })
    const sameBoot = spooled.boot === '' || spooled.boot === this.#boot
    const filedMs = sameBoot ? spooled.boottimeMs : 0
    if (request.command === 'GC') await this.#collect(request, filedMs)
    if (request.command !== 'DEL') return
    const { attachments, leases } = this.#modules
    await (request.plugin === 'twill-ipam' ? leases : attachments).del(request, filedMs)
    this.#modules.log.info(
      { containerId: request.containerId, ifName: request.ifName },
      'a DEL that was filed while this daemon was away is done',
    )
  }

  /** What fails is on record as being detached, and tried again without the entry. */
  async #collect(request: GcRequest, filedMs: number): Promise<void> {
    for (const { attachment, error } of await collectGarbage(request, filedMs, this.#modules))
      this.#modules.log.error(
        { id: attachment.id, error: messageOf(error) },
        'a stale attachment could not be taken down yet',
      )
  }
}

/** What failed in reading will fail again; what failed in doing may succeed. */
function isWorthAnotherTry(error: unknown): boolean {
  const code = (error as { code?: unknown }).code
  return code !== 'document.invalid' && typeof code !== 'number'
}
