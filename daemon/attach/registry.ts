/**
 * The attachments of this node as the journal has them, in memory. Every change goes to the journal first: what
 * is in this map survives the death of the process.
 */
import type { Attachment, JournalRecord } from '../journal/records.ts'

export interface AttachmentJournal {
  append(record: JournalRecord): Promise<void>
}

export class Registry {
  readonly #attachments: Map<string, Attachment>
  readonly #journal: AttachmentJournal
  #version = 0

  constructor(
    options: { attachments: ReadonlyMap<string, Attachment> },
    modules: { journal: AttachmentJournal },
  ) {
    this.#attachments = new Map(options.attachments)
    this.#journal = modules.journal
  }

  /** Raised by every change: tells the loop whether its facts are old. */
  get version(): number {
    return this.#version
  }

  get(id: string): Attachment | undefined {
    return this.#attachments.get(id)
  }

  all(): Attachment[] {
    return [...this.#attachments.values()]
  }

  /** @throws journal.write-failed: nothing is kept */
  async begin(attachment: Attachment): Promise<void> {
    await this.#journal.append({ t: 'attach', attachment })
    this.#set(attachment)
  }

  async attached(id: string, endpoint: { podMac: string; netnsCookie: string }): Promise<void> {
    await this.#journal.append({ t: 'attached', id, ...endpoint })
    const known = this.#attachments.get(id)
    if (known) this.#set({ ...known, ...endpoint, state: 'attached' })
  }

  /**
   * In memory it stands whether or not the journal can be written: a DEL goes on even on a full disk, and a
   * restart then only repeats it.
   */
  async detaching(id: string): Promise<void> {
    const known = this.#attachments.get(id)
    if (known) this.#set({ ...known, state: 'detaching' })
    await this.#journal.append({ t: 'detach', id })
  }

  async gone(id: string): Promise<void> {
    await this.#journal.append({ t: 'gone', id })
    this.#attachments.delete(id)
    this.#version++
  }

  #set(attachment: Attachment): void {
    this.#attachments.set(attachment.id, attachment)
    this.#version++
  }
}
