/**
 * Tells container runtimes of the network once pods can be attached and the executables are there, and keeps what they were told
 * true: a plugin of the chain that came, went or was upgraded, a file that somebody else took away or changed.
 */
import type { Clock } from '../../lib/clock.ts'
import { messageOf } from '../../lib/errors.ts'
import type { Log } from '../../lib/log.ts'
import { type Chain, type Chainable, type ChainSurvey, pluginFolder } from './chain.ts'
import { conflistText, installConflist, OFFERED_VERSIONS } from './conflist.ts'
import type { ExecutableFiles } from './executables.ts'

export interface AnnouncementOptions {
  /** null: somebody else writes it. */
  readonly conflist: string | null
  readonly network: string
  readonly binDir: string | null
  readonly chain: readonly Chainable[]
  /** How often it is looked at again. */
  readonly everyMs: number
}

export interface AnnouncementModules {
  readonly clock: Clock
  readonly log: Log
  readonly survey: ChainSurvey
  /** null: somebody else puts them there. */
  readonly executables: Pick<ExecutableFiles, 'install'> | null
  /** Can pods be attached? */
  readonly serves: () => boolean
  /** Called once, when runtimes know. */
  readonly announced: () => void
}

const SERVES_POLL_MS = 50
/** After a failure, and twice as long after each further one: an attempt may write a hundred megabytes. */
const RETRY_MS = 1_000

export class Announcement {
  readonly #options: AnnouncementOptions
  readonly #modules: AnnouncementModules
  readonly #stopping = new AbortController()
  #running: Promise<void> = Promise.resolve()
  #told = false
  #failure: string | null = null
  #problems: readonly string[] = []

  constructor(options: AnnouncementOptions, modules: AnnouncementModules) {
    this.#options = options
    this.#modules = modules
  }

  start(): void {
    this.#running = this.#run()
  }

  async stop(): Promise<void> {
    this.#stopping.abort()
    await this.#running
  }

  /** Why runtimes have not been told; null when they have. */
  get missing(): string | null {
    if (this.#told) return null
    return this.#failure ?? 'the network configuration is not written yet'
  }

  conditions(): { type: string; message: string }[] {
    const stale =
      this.#told && this.#failure !== null ? [{ type: 'NotAnnounced', message: this.#failure }] : []
    return [...stale, ...this.#problems.map(message => ({ type: 'PluginNotChained', message }))]
  }

  async #run(): Promise<void> {
    const { clock, serves } = this.#modules
    const { signal } = this.#stopping
    while (!serves() && !signal.aborted) await clock.sleep(SERVES_POLL_MS, signal)
    const { everyMs } = this.#options
    let retryMs = RETRY_MS
    while (!signal.aborted) {
      await this.#tell()
      const failed = this.#failure !== null
      await clock.sleep(failed ? retryMs : everyMs, signal)
      retryMs = failed ? Math.min(2 * retryMs, everyMs) : RETRY_MS
    }
  }

  async #tell(): Promise<void> {
    const { conflist } = this.#options
    const { log } = this.#modules
    let what = 'the executables could not be installed'
    try {
      await this.#install()
      what = 'the network configuration could not be written'
      if (conflist !== null) await this.#write(conflist)
      this.#failure = null
      if (this.#told) return
      this.#told = true
      this.#modules.announced()
    } catch (error) {
      const failure = `${what}: ${messageOf(error)}`
      if (failure !== this.#failure) log.error({}, failure)
      this.#failure = failure
    }
  }

  async #install(): Promise<void> {
    const { executables, log } = this.#modules
    const put = (await executables?.install()) ?? []
    if (put.length > 0) log.info({ folder: this.#options.binDir, files: put }, 'executables are installed')
  }

  async #write(path: string): Promise<void> {
    const { network, binDir, chain: wanted } = this.#options
    const { survey, log } = this.#modules
    const folder = await pluginFolder(binDir)
    const chain = await survey.look(folder, wanted, OFFERED_VERSIONS)
    this.#note(chain)
    if (this.#stopping.signal.aborted) return
    if (await installConflist(path, conflistText(network, chain.plugins)))
      log.info(
        { path, folder, chained: chain.plugins.map(({ name }) => name) },
        'the network configuration is written',
      )
  }

  #note({ problems }: Chain): void {
    for (const problem of problems) if (!this.#problems.includes(problem)) this.#modules.log.warn({}, problem)
    this.#problems = problems
  }
}
