/**
 * Table inet twill in this namespace, and what this process last left there.
 *
 * nf_tables counts the transactions of the whole namespace (the ruleset's generation), and we count ours along: as
 * long as the two agree nobody has touched anything, and `intact` costs one small request. When they do not, the
 * table is read and compared with what we know of it.
 *
 * Invariant: #known is what stood in the kernel right after our last transaction, elements by their raw keys.
 * Trap: elements go in with NLM_F_EXCL. Without it an element that is there already makes a transaction empty, an
 * empty one is not counted, and our count would run ahead: the next damage would bring the two together again.
 */

import { isDeepStrictEqual } from 'node:util'
import { isTwillError, TwillError } from '../../lib/errors.ts'
import type { Ruleset } from '../kernel.ts'
import { readAttributes } from '../netlink/attributes.ts'
import { Datagram } from '../netlink/datagram.ts'
import { errnoName } from '../netlink/libc.ts'
import { failureOf, type NetlinkSocket, type Outcome } from '../netlink/socket.ts'
import { NFT_TABLE } from '../ownership.ts'
import { NFTA_GEN_ID } from './constants.ts'
import type { NftInterpreter } from './interpreter.ts'
import {
  ELEMENT_CHANGE_BYTES,
  type ElementChange,
  writeGenerationRequest,
  writeTransaction,
} from './messages.ts'
import { type ObservedTable, readElements, readTable, sameTable } from './observed.ts'
import {
  changeText,
  type ElementsChange,
  elementsChangeBetween,
  namesIn,
  refillText,
  removalText,
  replacementText,
} from './ruleset-text.ts'
import { encodeKey, type KeyLayout } from './set-key.ts'

const ATTEMPTS = 4
const DATAGRAM_BYTES = 60_000
const CHANGES_PER_DATAGRAM = Math.floor((DATAGRAM_BYTES - 100) / ELEMENT_CHANGE_BYTES)

export interface NftTableOptions {
  /** Of family inet; NFT_TABLE unless a test says otherwise. */
  readonly table?: string
}

export interface NftTableModules {
  /** Of protocol NETLINK_NETFILTER, opened in the same namespace as the interpreter. */
  readonly socket: NetlinkSocket
  readonly interpreter: NftInterpreter
}

export class NftTable {
  readonly #table: string
  readonly #socket: NetlinkSocket
  readonly #interpreter: NftInterpreter
  readonly #datagram = new Datagram(DATAGRAM_BYTES)
  /** The kernel's generation when the table was last known to be as #known says; null: not known. */
  #generation: number | null = null
  #known: ObservedTable | null = null
  /** Of the sets as they were last seen: they change with the whole table only. */
  #layouts: ReadonlyMap<string, KeyLayout | null> | null = null
  /** What the table was made from, elements kept up to date; null: nothing of ours yet. */
  #chains: string | null = null
  readonly #elements = new Map<string, Set<string>>()

  constructor(options: NftTableOptions, modules: NftTableModules) {
    this.#table = options.table ?? NFT_TABLE
    this.#socket = modules.socket
    this.#interpreter = modules.interpreter
  }

  /**
   * Makes the table be the ruleset, in one transaction. Only elements are exchanged when nothing else differs and the
   * table is intact, so that counters and rules stay; only rules and elements when its chains and sets are the same, so
   * that no packet is lost. Another version's table is made anew.
   * @throws TwillError kernel.failed; the table is then as it was
   */
  replace(ruleset: Ruleset): void {
    const change = this.#differenceTo(ruleset)
    if (change === null || !this.#changed(change)) this.#replaceWhole(ruleset)
  }

  /** False: the kernel refuses this order of changes (intervals that touch), but may take them as a whole table. */
  #changed(change: ElementsChange): boolean {
    try {
      if (change.add.length + change.remove.length > 0) this.change(change)
      return true
    } catch (error) {
      if (isTwillError(error, 'kernel.failed')) return false
      throw error
    }
  }

  #differenceTo(ruleset: Ruleset): ElementsChange | null {
    if (this.#chains === null || this.#chains !== ruleset.chains || !this.intact()) return null
    return elementsChangeBetween({ chains: this.#chains, elements: this.#elements }, ruleset)
  }

  #replaceWhole(ruleset: Ruleset): void {
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      const before = this.#readGeneration()
      if (!this.#refilled(ruleset)) this.#interpreter.run(replacementText(this.#table, ruleset))
      this.#remember(ruleset)
      this.#known = readTable(this.#socket, this.#table)
      this.#layouts = layoutsOf(this.#known)
      this.#generation = this.#readGeneration()
      if (this.#generation === next(before)) return
    }
    // Others' transactions came between each time, and one of them may have been about our table.
    this.#forget()
  }

  /** False: its chains and sets are others, by name or, as the kernel finds, by type. */
  #refilled(ruleset: Ruleset): boolean {
    const found = readTable(this.#socket, this.#table)
    if (found === null || found.dormant) return false
    const wanted = namesIn(ruleset)
    if (!sameNames(found.chainNames, wanted.chains) || !sameNames(found.sets.keys(), wanted.sets))
      return false
    try {
      this.#interpreter.run(refillText(this.#table, ruleset))
      return true
    } catch (error) {
      if (isTwillError(error, 'kernel.failed')) return false
      throw error
    }
  }

  #remember(ruleset: Ruleset): void {
    this.#chains = ruleset.chains
    this.#elements.clear()
    for (const [set, elements] of ruleset.elements) this.#elements.set(set, new Set(elements))
  }

  #forget(): void {
    this.#known = null
    this.#generation = null
  }

  /**
   * Removes and adds elements in one transaction, removals first; what is there or gone already is no failure.
   * Constant in time for plain sets of interface names, addresses and MACs; others go through nft.
   * @throws TwillError kernel.failed (ENOENT when table or set are missing); nothing is changed then
   */
  change(change: ElementsChange): void {
    const encoded = this.#encode(change)
    if (encoded === null) this.#changeByText(change)
    else this.#changeByMessages(this.#withoutNeedless(encoded))
    for (const { set, element } of change.remove) this.#elements.get(set)?.delete(element)
    for (const { set, element } of change.add) this.#elementsOf(set).add(element)
  }

  #elementsOf(set: string): Set<string> {
    const found = this.#elements.get(set)
    if (found !== undefined) return found
    const made = new Set<string>()
    this.#elements.set(set, made)
    return made
  }

  /** null when one of the sets is not of a kind we encode, or the change is too large for one datagram. */
  #encode(change: ElementsChange): ElementChange[] | null {
    if (change.add.length + change.remove.length > CHANGES_PER_DATAGRAM) return null
    const encoded: ElementChange[] = []
    for (const type of ['delete', 'add'] as const)
      for (const { set, element } of type === 'add' ? change.add : change.remove) {
        const layout = this.#layoutsOfTable().get(set)
        if (layout === undefined || layout === null) return null
        encoded.push({ type, set, key: encodeKey(layout, element) })
      }
    return encoded
  }

  /**
   * The loop asks again for what attachments have put in force themselves. While nobody else touched anything,
   * what we know tells; otherwise the kernel is asked.
   */
  #withoutNeedless(changes: readonly ElementChange[]): readonly ElementChange[] {
    const known = this.#known
    if (known === null) return changes
    const nameOf = ({ set, key }: ElementChange) => `${set} ${key.toString('latin1')}`
    const removed = new Set(changes.filter(({ type }) => type === 'delete').map(nameOf))
    const needed = changes.filter(change => {
      const present = known.sets.get(change.set)?.elements.has(change.key.toString('latin1')) ?? false
      return change.type === 'delete' ? present : !present || removed.has(nameOf(change))
    })
    return needed.length === changes.length || this.#readGeneration() !== this.#generation ? changes : needed
  }

  /** A daemon that has replaced nothing yet learns the sets' layouts, but not to trust what it found. */
  #layoutsOfTable(): ReadonlyMap<string, KeyLayout | null> {
    if (this.#layouts !== null) return this.#layouts
    const found = layoutsOf(readTable(this.#socket, this.#table))
    if (found === null)
      throw new TwillError(
        'kernel.failed',
        `nft: there is no table inet ${this.#table}`,
        { operation: 'nft change', errno: 'ENOENT', message: 'no such table' },
        { retryable: true },
      )
    this.#layouts = found
    return found
  }

  #changeByMessages(changes: readonly ElementChange[]): void {
    let pending = changes
    while (pending.length > 0) {
      const request = writeTransaction(this.#datagram, this.#table, pending)
      const [begin, ...outcomes] = this.#socket.execute(request, { ack: 'as-written' }) as [
        Outcome,
        ...Outcome[],
      ]
      if (begin.errno !== 0) throw failureOf('nft', begin)
      const left = pending.filter((change, i) => !settled(change, outcomes[i] as Outcome))
      const committed = left.length === pending.length
      // With a transaction of somebody else in between, the kernel's count is ahead of ours from here on.
      if (committed && this.#generation !== null) this.#generation = next(this.#generation)
      pending = committed ? [] : left
    }
    this.#noteChanges(changes)
  }

  #noteChanges(changes: readonly ElementChange[]): void {
    if (this.#known === null) return
    for (const { type, set, key } of changes) {
      const elements = this.#known.sets.get(set)?.elements
      if (type === 'add') elements?.add(key.toString('latin1'))
      else elements?.delete(key.toString('latin1'))
    }
  }

  #changeByText(change: ElementsChange): void {
    // Whole before, or what is read back afterwards would take others' damage for ours.
    const before = this.intact() ? this.#generation : null
    this.#interpreter.run(changeText(this.#table, change))
    if (this.#known !== null)
      for (const set of new Set([...change.add, ...change.remove].map(element => element.set)))
        this.#reread(this.#known, set)
    this.#generation = this.#readGeneration()
    // What was there already makes the transaction empty, and an empty one is not counted.
    if (before === null || ![before, next(before)].includes(this.#generation)) this.#forget()
  }

  #reread(known: ObservedTable, name: string): void {
    const set = known.sets.get(name)
    if (set === undefined) return
    const elements = new Set(readElements(this.#socket, this.#table, name))
    known.sets.set(name, { ...set, elements })
  }

  /**
   * True when the table in the kernel is what this object last left there: no rule, chain, set or element of it
   * changed by anybody else. False also when nothing was replaced yet, and when it could not be made sure of.
   * @throws TwillError kernel.failed
   */
  intact(): boolean {
    for (let attempt = 0; this.#known !== null && attempt < ATTEMPTS; attempt++) {
      const generation = this.#readGeneration()
      if (generation === this.#generation) return true
      const found = readTable(this.#socket, this.#table)
      if (found === null || !sameTable(found, this.#known)) return false
      if (generation === this.#readGeneration()) this.#generation = generation
    }
    return false
  }

  /** Takes the table away. @returns whether there was one. @throws TwillError kernel.failed */
  remove(): boolean {
    const stood = readTable(this.#socket, this.#table) !== null
    if (stood) this.#interpreter.run(removalText(this.#table))
    this.#chains = null
    this.#elements.clear()
    this.#layouts = null
    this.#forget()
    return stood
  }

  #readGeneration(): number {
    const [outcome] = this.#socket.executeAll('nft generation', writeGenerationRequest(this.#datagram))
    const reply = outcome?.replies[0]
    const generation = reply && readAttributes(reply.bytes, reply.start + 4, reply.end).get(NFTA_GEN_ID)
    if (generation === undefined) throw new TwillError('internal', 'the kernel names no nftables generation')
    return generation.readUInt32BE(0)
  }

  /** Leaves the table in force. */
  close(): void {
    this.#interpreter.close()
    this.#socket.close()
  }
}

const sameNames = (a: Iterable<string>, b: Iterable<string>): boolean =>
  isDeepStrictEqual([...a].sort(), [...b].sort())

function layoutsOf(table: ObservedTable | null): ReadonlyMap<string, KeyLayout | null> | null {
  return table === null ? null : new Map([...table.sets].map(([name, { layout }]) => [name, layout]))
}

/** The kernel skips 0. */
const next = (generation: number): number => (generation + 1) >>> 0 || 1

/** True when the change needs no doing. @throws TwillError kernel.failed for any failure besides that */
function settled(change: ElementChange, outcome: Outcome): boolean {
  if (outcome.errno === 0) return false
  const name = errnoName(outcome.errno)
  if (name === (change.type === 'add' ? 'EEXIST' : 'ENOENT')) return true
  throw failureOf(`nft ${change.type} element in ${change.set}`, outcome)
}
