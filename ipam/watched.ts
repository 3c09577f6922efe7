/**
 * What every node watches of all others: where they are and which parts they own. It is most of what the store sends to
 * a node, so a process watches it once, and whoever needs it subscribes here.
 */
import { nodeKey, PREFIX } from '../datastore/keys.ts'
import { Mirror } from '../datastore/mirror.ts'
import { recordParser } from '../datastore/record.ts'
import { type NodeRecord, nodeRecord } from '../datastore/records/node.ts'
import type { SlotRecord } from '../datastore/records/slot.ts'
import type { Store } from '../datastore/store.ts'
import { TwillError } from '../lib/errors.ts'
import type { Log } from '../lib/log.ts'
import { parseSlot } from './slot-index.ts'

const parseNode = recordParser(nodeRecord)

/** Who may write one node's record speaks for no other: names are asked for at the API server, and nodes removed by them. */
function parseNamedNode(text: string, key: string): NodeRecord {
  const record = parseNode(text, key)
  if (nodeKey(record.name) === key) return record
  const why = `it is of a node ${JSON.stringify(record.name.slice(0, 253))}`
  throw new TwillError('document.invalid', `record ${key} is damaged: ${why}`, { key, problem: 'damaged' })
}

export interface WatchedOptions {
  /** Default: see recordParser; of another name than its key's is none. */
  readonly parseNode?: (text: string, key: string) => NodeRecord
  readonly parseSlot?: (text: string, key: string) => SlotRecord
}

export interface WatchedModules {
  readonly store: Store
  readonly log: Log
}

export class Watched {
  readonly nodes: Mirror<NodeRecord>
  readonly slots: Mirror<SlotRecord>

  /** Watches from here on, until `close`. */
  constructor(options: WatchedOptions, modules: WatchedModules) {
    const { parseNode = parseNamedNode } = options
    this.nodes = new Mirror({ prefix: PREFIX.nodes, parse: parseNode }, modules)
    this.slots = new Mirror({ prefix: PREFIX.slots, parse: options.parseSlot ?? parseSlot }, modules)
  }

  /** Resolves when both were listed once. */
  async synced(): Promise<void> {
    await Promise.all([this.nodes.synced(), this.slots.synced()])
  }

  async close(): Promise<void> {
    await Promise.all([this.nodes.close(), this.slots.close()])
  }
}
