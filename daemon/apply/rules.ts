/**
 * Keeps our nftables table and our accept chains as desired.
 *
 * Trap: attachments add and remove elements meanwhile. The desired rules are asked for in the same turn of the
 * event loop in which the kernel is called, so that an attachment whose elements are on their way already
 * stands in them; a replacement made of older facts would take its elements out.
 */
import { isDeepStrictEqual } from 'node:util'
import type { AcceptChain, Kernel, Ruleset, SetElement } from '../../kernel/kernel.ts'
import type { DesiredRules } from '../desired/state.ts'

export class RulesInForce {
  readonly #kernel: Kernel
  #ruleset: Ruleset | null = null
  #acceptChains: readonly AcceptChain[] | null = null

  constructor(modules: { kernel: Kernel }) {
    this.#kernel = modules.kernel
  }

  /** This process has put the whole table in force once. */
  get standing(): boolean {
    return this.#ruleset !== null
  }

  /**
   * @param verify also ask the kernel whether the table is still ours
   * @returns true when somebody else had damaged it
   * @throws TwillError kernel.failed
   */
  async putTable(desired: () => DesiredRules, verify: boolean): Promise<boolean> {
    const damaged = verify && this.#ruleset !== null && !(await this.#kernel.rulesetIntact())
    const { ruleset } = desired()
    const had = this.#ruleset
    if (had === null || damaged || had.chains !== ruleset.chains || !sameSets(had, ruleset))
      await this.#replace(ruleset)
    else await this.#change(had, ruleset)
    return damaged
  }

  /** @returns what had to be put right although nothing new was desired. @throws TwillError kernel.failed */
  async putAcceptChains(desired: () => DesiredRules, verify: boolean): Promise<readonly string[]> {
    const { acceptChains } = desired()
    const isNew = !isDeepStrictEqual(acceptChains, this.#acceptChains)
    if (!isNew && !verify) return []
    const { changed } = await this.#kernel.ensureAcceptChains(acceptChains)
    this.#acceptChains = acceptChains
    return isNew ? [] : changed
  }

  async #replace(ruleset: Ruleset): Promise<void> {
    await this.#kernel.replaceRuleset(ruleset)
    this.#ruleset = ruleset
  }

  async #change(had: Ruleset, want: Ruleset): Promise<void> {
    const add = lacking(want, had)
    const remove = lacking(had, want)
    if (add.length === 0 && remove.length === 0) return
    try {
      await this.#kernel.changeElements({ add, remove })
      this.#ruleset = want
    } catch {
      // One element that clashes must not keep the others out, and a set may be gone: the whole table settles it.
      await this.#replace(want)
    }
  }
}

const sameSets = (a: Ruleset, b: Ruleset): boolean =>
  a.elements.size === b.elements.size && [...a.elements.keys()].every(set => b.elements.has(set))

/** Elements of `from` that `than` has not. */
function lacking(from: Ruleset, than: Ruleset): SetElement[] {
  return [...from.elements].flatMap(([set, elements]) => {
    const others = than.elements.get(set)
    return [...elements].flatMap(element => (others?.has(element) ? [] : [{ set, element }]))
  })
}
