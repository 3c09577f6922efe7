/** One run of twillctl: its settings, and the store once a command asks for it. */
import type { AuditReport, Status } from '../daemon/api/types.ts'
import type { Store } from '../datastore/store.ts'
import type { CliModules } from './modules.ts'
import { type Colours, coloursFor } from './render/colours.ts'
import type { Settings } from './settings.ts'

export class Session {
  readonly settings: Settings
  readonly modules: CliModules
  readonly colours: Colours
  readonly #errorColours: Colours
  #store: Promise<Store> | null = null

  constructor(settings: Settings, modules: CliModules) {
    this.settings = settings
    this.modules = modules
    this.colours = coloursFor(modules.stdout, modules.env)
    this.#errorColours = coloursFor(modules.stderr, modules.env)
  }

  /** @throws config.invalid, store.* */
  store(): Promise<Store> {
    this.#store ??= this.#open()
    return this.#store
  }

  status(): Promise<Status> {
    return this.modules.readStatus(this.settings.socket)
  }

  /** What this node's daemon finds now. */
  audit(): Promise<AuditReport> {
    return this.modules.readAudit(this.settings.socket)
  }

  repair(dryRun: boolean): Promise<AuditReport> {
    return this.modules.repairNode(this.settings.socket, dryRun)
  }

  print(line: string): void {
    this.modules.stdout.write(`${line}\n`)
  }

  /** For people, so that the output of a command stays what a program reads. */
  note(line: string): void {
    this.modules.stderr.write(`${line}\n`)
  }

  warn(line: string): void {
    this.note(`${this.#errorColours.yellow('warning:')} ${line}`)
  }

  complain(line: string): void {
    this.note(`${this.#errorColours.red('error:')} ${line}`)
  }

  async close(): Promise<void> {
    const store = await this.#store?.catch(() => null)
    await store?.close()
  }

  async #open(): Promise<Store> {
    const { kubernetes } = this.settings
    const records = await this.#openRecords()
    return kubernetes.enabled ? this.modules.openKubernetes(kubernetes, records) : (records as Store)
  }

  /** null: they are in Kubernetes. */
  async #openRecords(): Promise<Store | null> {
    const { datastore, socket, configFile } = this.settings
    if (datastore.type === 'kubernetes') return null
    if (datastore.type === 'etcd') return this.modules.openStore(datastore)
    const hints = [
      `for a datastore in etcd: --etcd-endpoints, TWILL_DATASTORE_ENDPOINTS or datastore.endpoints in ${configFile}`,
      `for one in Kubernetes: TWILL_DATASTORE_TYPE=kubernetes or datastore.type in ${configFile}`,
    ]
    return this.modules.openEmbedded({ socketPath: socket, hint: hints.join('; ') })
  }
}
