/**
 * The one loop between facts and kernel. Events (facts changed, a kernel notification, a timer) only mark
 * domains dirty; a pass observes what is dirty, plans, and applies.
 *
 * Invariants: one pass at a time; facts are read after the kernel, and the plan made of them is sent in the same
 * turn; nothing is deleted before the facts were complete once; no tunnel opens before the rules stand.
 * Traps: our own changes are reported to us too, which costs one more pass that finds nothing; a foreign program
 * that undoes what we do must not keep the node busy (Pacing).
 */
import type { KernelEvent } from '../kernel/kernel.ts'
import type { Timer } from '../lib/clock.ts'
import { messageOf } from '../lib/errors.ts'
import { type Applied, applyChanges, objectOf } from './apply/apply.ts'
import { kindsToObserve, observe } from './apply/observe.ts'
import { Pacing } from './apply/pacing.ts'
import { Repairs } from './apply/repairs.ts'
import { RulesInForce } from './apply/rules.ts'
import { desired } from './desired/desired.ts'
import type { AttachmentFacts } from './desired/facts.ts'
import { desiredRules } from './desired/rules.ts'
import type { DesiredState } from './desired/state.ts'
import { steady } from './desired/steady.ts'
import {
  type Domain,
  type Failure,
  LOOP,
  type LoopMetrics,
  type LoopModules,
  type LoopOptions,
  type LoopReport,
} from './loop-modules.ts'
import { KINDS, type Kind, type Observed, type Plan, type Problem, type Reason } from './plan/observed.ts'
import { plan } from './plan/plan.ts'

export { type Domain, LOOP, type LoopMetrics, type LoopModules, type LoopOptions, type LoopReport }

const DETAIL_LINES = 20

export class Loop {
  readonly #options: LoopOptions
  readonly #modules: LoopModules
  readonly #pacing: Pacing
  readonly #rules: RulesInForce
  readonly #repairs = new Repairs()
  readonly #dirty = new Set<Domain>()
  readonly #timers = new Map<string, Timer>()
  /** When each domain is due again, by BOOTTIME in milliseconds. */
  readonly #retries = new Map<Domain | 'all', number>()
  readonly #reattaching = new Set<string>()
  /** As the last pass found them; null: where they are may have changed since. */
  #switches: ReadonlyMap<string, string | null> | null = null
  /** As last glanced at; our own changes of them cost one look more. */
  #legacyFilters = ''
  readonly #failing = new Map<string, Failure>()
  readonly #ownChanged = new Set<Domain>()
  /** When the first of them came, by BOOTTIME in milliseconds. */
  #ownChangedMs = 0
  /** Name of a host end → MAC of its pod end. */
  readonly #heardMacs = new Map<string, string>()
  #problems: readonly Problem[] = []
  #converged = false
  #watch: { close(): Promise<void> } | null = null
  #running: Promise<void> | null = null
  #started = false
  #stopped = false
  #settling: (() => void)[] = []

  constructor(options: LoopOptions, modules: LoopModules) {
    this.#options = options
    this.#modules = modules
    this.#pacing = new Pacing(options.pacing, modules)
    this.#rules = new RulesInForce(modules)
  }

  /** Watches the kernel and makes the first pass soon. No pass comes before: attachments may not be recovered yet. */
  start(): void {
    this.#started = true
    this.#watch = this.#modules.kernel.watch(event => this.#heard(event))
    this.markDirty('all')
    this.#resyncLater()
    this.#every('silent', this.#options.silentMs, () => {
      void this.#lookAtSwitches()
      void this.#glanceAtLegacyFilters()
    })
    this.#every('accept', this.#options.acceptMs, () => this.markDirty('accept'))
  }

  markDirty(domain: Domain | 'all'): void {
    this.#switches = null
    if (domain === 'all') for (const each of ALL) this.#dirty.add(each)
    else this.#dirty.add(domain)
    this.#wake()
  }

  /** Resolves when no pass is running and none is due. Failed steps that wait for their next try do not count. */
  settled(): Promise<void> {
    if (this.#isQuiet()) return Promise.resolve()
    return new Promise(resolve => this.#settling.push(resolve))
  }

  report(): LoopReport {
    return {
      converged: this.#converged,
      rulesStanding: this.#rules.standing,
      failing: new Map(this.#failing),
      problems: this.#problems,
    }
  }

  /** Ends after the pass that is running. Leaves the kernel as it is. */
  async stop(): Promise<void> {
    this.#stopped = true
    for (const timer of this.#timers.values()) timer.cancel()
    this.#timers.clear()
    await this.#watch?.close()
    await this.#running
    this.#settle()
  }

  // -------------------------------------------------------------- when

  #heard(event: KernelEvent): void {
    if (event.type === 'overflow') this.markDirty('all')
    else if (event.type === 'pod-mac') this.#heardMac(event.hostInterface, event.mac)
    // Our own changes are looked at again, since they have side effects; but not for each pod that comes or goes.
    else if (event.domain !== 'netfilter' && (event.own === true || event.consequence === true))
      this.lookSoon(event.domain)
    else if (event.domain !== 'netfilter') this.markDirty(event.domain)
    // Elements have none.
    else if (event.own !== true) {
      this.markDirty('netfilter')
      this.#retryLater('accept', this.#options.acceptGatherMs)
    }
  }

  #wake(): void {
    if (!this.#started || this.#stopped || this.#running !== null || this.#timers.has('pass')) return
    this.#after('pass', this.#options.gatherMs, () => this.#run())
  }

  #run(): void {
    this.#running = this.#pass().finally(() => {
      this.#running = null
      if (this.#dirty.size > 0) this.#wake()
      else this.#settle()
    })
  }

  #isQuiet(): boolean {
    return this.#stopped || (this.#running === null && this.#dirty.size === 0 && !this.#timers.has('pass'))
  }

  #settle(): void {
    const waiting = this.#settling
    this.#settling = []
    for (const resolve of waiting) resolve()
  }

  #after(name: string, ms: number, callback: () => void): void {
    this.#timers.get(name)?.cancel()
    const run = () => {
      this.#timers.delete(name)
      callback()
    }
    this.#timers.set(name, this.#modules.clock.setTimer(ms, run))
  }

  #every(name: string, ms: number, callback: () => void): void {
    this.#after(name, ms, () => {
      callback()
      this.#every(name, ms, callback)
    })
  }

  /** With jitter: a thousand nodes that started together must not all look at the same moment. */
  #resyncLater(): void {
    const jitter = 0.9 + 0.2 * this.#modules.random.fraction()
    this.#after('resync', this.#options.resyncMs * jitter, () => {
      this.#pacing.forget()
      this.markDirty('all')
      this.#resyncLater()
    })
  }

  /** Something of our own doing is to be looked at when no more of it comes. */
  lookSoon(domain: Domain): void {
    const { ownGatherMs, ownGatherMaxMs } = this.#options
    const nowMs = this.#modules.clock.boottimeMs()
    if (this.#ownChanged.size === 0) this.#ownChangedMs = nowMs
    this.#ownChanged.add(domain)
    const leftMs = Math.max(0, this.#ownChangedMs + ownGatherMaxMs - nowMs)
    this.#after('own', Math.min(ownGatherMs, leftMs), () => {
      for (const each of this.#ownChanged) this.markDirty(each)
      this.#ownChanged.clear()
    })
  }

  #retryLater(domain: Domain | 'all', waitMs: number): void {
    const dueMs = this.#modules.clock.boottimeMs() + waitMs
    if ((this.#retries.get(domain) ?? Number.POSITIVE_INFINITY) <= dueMs) return
    this.#retries.set(domain, dueMs)
    this.#after(`retry ${domain}`, waitMs, () => {
      this.#retries.delete(domain)
      this.markDirty(domain)
    })
  }

  // -------------------------------------------------------------- a pass

  async #pass(): Promise<void> {
    const dirty = new Set(this.#dirty)
    this.#dirty.clear()
    const { clock, metrics } = this.#modules
    const began = clock.boottimeMs()
    let steps = 0
    try {
      await this.#passRules(dirty)
      steps = await this.#passObjects(dirty)
    } catch (error) {
      this.#failed('observe', error, 'all')
    }
    metrics.passed(clock.boottimeMs() - began, steps)
  }

  async #passRules(dirty: ReadonlySet<Domain>): Promise<void> {
    const { facts } = this.#modules
    const rules = () => desiredRules(facts())
    if (!facts().known) return
    await this.#guard('netfilter', dirty, async verify => {
      const damaged = await this.#rules.putTable(rules, verify)
      return damaged ? ['table'] : []
    })
    await this.#guard('accept', dirty, verify => this.#rules.putAcceptChains(rules, verify))
  }

  /**
   * Runs what keeps one of the two rule sets: paced, its repairs counted, its failures tried again. While damage
   * is in dispute, what the facts ask for is still done.
   */
  async #guard(
    domain: 'netfilter' | 'accept',
    dirty: ReadonlySet<Domain>,
    put: (verify: boolean) => Promise<readonly string[]>,
  ): Promise<void> {
    const waitMs = this.#pacing.waitMs(domain)
    const verify = dirty.has(domain) && waitMs === 0
    if (dirty.has(domain) && !verify) this.#retryLater(domain, waitMs)
    if (!verify && !dirty.has('facts')) return
    try {
      const mended = await put(verify)
      this.#failing.delete(domain)
      this.#pacing.succeeded(domain)
      for (const what of mended) this.#repaired(domain, `${domain} ${what}`, 'different')
      if (mended.length > 0) this.#dispute(domain)
    } catch (error) {
      this.#failed(domain, error, domain)
    }
  }

  async #passObjects(dirty: ReadonlySet<Domain>): Promise<number> {
    const kinds = kindsToObserve(
      dirty.has('facts') ? new Set(KINDS) : new Set(KINDS.filter(kind => dirty.has(kind))),
    )
    if (kinds.size === 0) return 0
    const { kernel, facts } = this.#modules
    const before = facts()
    const observed = await observe(kernel, kinds, desired(before))
    const want = desired(steady(before, facts()))
    if (want.known && !this.#rules.standing) {
      this.#retryLater('facts', this.#pacing.waitMs('netfilter'))
      return 0
    }
    const whole = plan(want, observed)
    if (kinds.has('sysctl') && this.#dirty.size === 0 && !whole.changes.some(({ kind }) => kind === 'sysctl'))
      this.#switches = observed.sysctls
    // What stands on a link was not looked at: the link's own pass looks at everything.
    if (!kinds.has('link') && whole.changes.some(({ kind }) => kind === 'link')) {
      this.markDirty('link')
      return 0
    }
    const changes = whole.changes.filter(({ kind }) => kinds.has(kind))
    return this.#apply(kinds, want, { ...whole, changes }, observed)
  }

  async #apply(
    kinds: ReadonlySet<Kind>,
    want: DesiredState,
    { changes, reattach, problems }: Plan,
    observed: Observed,
  ): Promise<number> {
    const repairs = this.#repairs.among(changes, want)
    const applied = await applyChanges(changes, { kernel: this.#modules.kernel, pacing: this.#pacing })
    this.#repairs.passed(kinds, want, applied, observed.sysctls)
    for (const change of applied.done) {
      this.#failing.delete(objectOf(change))
      this.#pacing.succeeded(objectOf(change))
    }
    this.#countRepairs(applied, repairs)
    this.#countFailures(applied)
    if (kinds.has('link')) {
      this.#report(problems)
      for (const id of reattach) this.#reattach(id)
      this.#converged ||= want.known && applied.failed.length + applied.waiting.length === 0
      this.#forgetFailures(changes.map(objectOf))
    }
    return applied.done.length
  }

  #countRepairs({ done }: Applied, repairs: ReadonlySet<unknown>): void {
    const mended = done.filter(change => repairs.has(change))
    // One object may take two steps: it is one repair.
    const objects = new Map(mended.map(change => [objectOf(change), change]))
    let lines = 0
    for (const [object, change] of objects) {
      this.#repaired(change.kind, object, change.reason, lines++ < DETAIL_LINES)
      this.#dispute(object)
    }
  }

  #countFailures({ failed, waiting }: Applied): void {
    const { log, metrics } = this.#modules
    for (const [index, { change, error }] of failed.entries()) {
      const object = objectOf(change)
      this.#pacing.failed(object)
      this.#noteFailure(object, error.message)
      metrics.stepFailed(change.kind)
      if (index < DETAIL_LINES)
        log.warn({ kind: change.kind, object, step: change.step, error: error.message }, 'kernel step failed')
      this.#retryLater(change.kind, this.#pacing.waitMs(object))
    }
    for (const { change, waitMs } of waiting) this.#retryLater(change.kind, waitMs)
  }

  #noteFailure(object: string, message: string): void {
    const sinceMs = this.#failing.get(object)?.sinceMs ?? this.#modules.clock.boottimeMs()
    this.#failing.set(object, { message, sinceMs })
  }

  /** What a whole pass found nothing to do about is not failing any more. */
  #forgetFailures(pending: readonly string[]): void {
    const still = new Set(pending)
    for (const object of this.#failing.keys())
      if (KINDS.some(kind => object.startsWith(`${kind} `)) && !still.has(object))
        this.#failing.delete(object)
    this.#failing.delete('observe')
  }

  /** A pass looks at more than switches, and an idle node should cost nothing: only when one is no longer as it was. */
  async #lookAtSwitches(): Promise<void> {
    const last = this.#switches
    if (last !== null && (await this.#unchanged(last))) return
    this.markDirty('sysctl')
  }

  async #glanceAtLegacyFilters(): Promise<void> {
    // A glance that fails is a look that comes later.
    const glance = await this.#modules.kernel.glanceAtLegacyFilters().catch(() => this.#legacyFilters)
    if (glance === this.#legacyFilters) return
    this.#legacyFilters = glance
    this.markDirty('accept')
  }

  async #unchanged(switches: ReadonlyMap<string, string | null>): Promise<boolean> {
    const { kernel } = this.#modules
    const same = [...switches].map(async ([path, value]) => (await kernel.readSysctl(path)) === value)
    return Promise.all(same).then(
      all => all.every(Boolean),
      () => false,
    )
  }

  // -------------------------------------------------------------- what is said

  #repaired(kind: Kind | 'netfilter' | 'accept' | 'pod', object: string, reason: Reason, say = true): void {
    this.#modules.metrics.repaired(kind, reason)
    if (say) this.#modules.log.info({ kind, object, reason }, 'repaired what somebody else changed')
  }

  #dispute(object: string): void {
    if (this.#pacing.repaired(object))
      this.#modules.log.warn(
        { object, nextInMs: this.#pacing.waitMs(object) },
        'somebody keeps undoing this: repairs slow down',
      )
  }

  #failed(kind: 'netfilter' | 'accept' | 'observe', error: unknown, retry: Domain | 'all'): void {
    this.#pacing.failed(kind)
    this.#noteFailure(kind, messageOf(error))
    this.#modules.metrics.stepFailed(kind)
    this.#modules.log.warn({ kind, error: messageOf(error) }, 'reconciling failed; trying again')
    this.#retryLater(retry, this.#pacing.waitMs(kind))
  }

  #report(problems: readonly Problem[]): void {
    const known = new Set(this.#problems.map(({ message }) => message))
    for (const problem of problems)
      if (!known.has(problem.message)) this.#modules.log.error({ ...problem }, problem.message)
    this.#problems = problems
  }

  // -------------------------------------------------------------- pods

  /** Not awaited by the pass: an attachment's own queue may be long. */
  #reattach(id: string): void {
    const object = `pod ${id}`
    if (this.#reattaching.has(id) || this.#pacing.waitMs(object) > 0) return
    this.#reattaching.add(id)
    this.#modules
      .reattach(id)
      .then(() => {
        this.#repaired('pod', object, 'missing')
        this.#dispute(object)
      })
      .catch(error => {
        this.#pacing.failed(object)
        this.#modules.log.warn({ object, error: messageOf(error) }, 'attaching again failed')
        this.#retryLater('link', this.#pacing.waitMs(object))
      })
      .finally(() => {
        this.#reattaching.delete(id)
        this.markDirty('link')
      })
  }

  /** Learned in a turn of its own, with all that are told together. A pod that has just come is heard of as well. */
  #heardMac(hostInterface: string, mac: string): void {
    this.#heardMacs.set(hostInterface, mac)
    if (!this.#timers.has('macs')) this.#after('macs', 0, () => this.#learn())
  }

  #learn(): void {
    const heard = [...this.#heardMacs]
    this.#heardMacs.clear()
    const byName = new Map(this.#modules.facts().attachments.map(each => [each.hostInterface, each]))
    for (const [hostInterface, mac] of heard) {
      const attachment = byName.get(hostInterface)
      if (attachment !== undefined) void this.#learnOf(attachment, mac)
    }
  }

  /** Paced, because each costs a record in the journal and a pass: a pod that changes its MAC all the time has to wait. */
  async #learnOf(attachment: AttachmentFacts, mac: string): Promise<void> {
    const { learnPodMac, log } = this.#modules
    const { hostInterface } = attachment
    // Another one may just be being learned.
    if (attachment.busy) return this.#learnLater(hostInterface, mac, this.#options.ownGatherMs)
    if (attachment.podMac === mac) return
    const object = `mac ${attachment.id}`
    const waitMs = this.#pacing.waitMs(object)
    if (waitMs > 0) return this.#learnLater(hostInterface, mac, waitMs)
    try {
      await learnPodMac(attachment.id, mac)
      this.#dispute(object)
      this.markDirty('facts')
    } catch (error) {
      this.#pacing.failed(object)
      log.warn({ object, mac, error: messageOf(error) }, 'a new MAC of a pod could not be taken over yet')
      this.#learnLater(hostInterface, mac, this.#pacing.waitMs(object))
    }
  }

  /** What was heard meanwhile counts. */
  #learnLater(hostInterface: string, mac: string, waitMs: number): void {
    if (!this.#heardMacs.has(hostInterface)) this.#heardMacs.set(hostInterface, mac)
    if (!this.#stopped) this.#after(`mac ${hostInterface}`, waitMs, () => this.#learn())
  }
}

const ALL: readonly Domain[] = [...KINDS, 'netfilter', 'accept', 'facts']
