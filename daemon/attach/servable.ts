/**
 * Whether ADD could be served, for STATUS (CNI-170, CNI-171): never waits for anything. A data path counts as broken
 * only when it has been so for a while, because an error makes kubelet take the node out of service.
 */
import { CNI_CODE } from '../../cni-bin/cni-error.ts'
import { VXLAN_LINK } from '../../kernel/ownership.ts'
import type { Clock } from '../../lib/clock.ts'
import type { LoopReport } from '../loop.ts'

export type Servable =
  | { readonly ok: true }
  | { readonly ok: false; readonly code: number; readonly reason: string }

export interface ServableModules {
  readonly room: () => { ok: true } | { ok: false; reason: string }
  readonly report: () => Pick<LoopReport, 'rulesStanding' | 'failing'>
  readonly clock: Clock
  /** BOOTTIME until which a daemon that has just been restarted is taken at the word of the one before it. */
  readonly graceUntilMs: number
}

const BROKEN_AFTER_MS = 10_000

/** Without these no pod reaches another node, or none may be let out. */
const DATA_PATH = ['netfilter', ...Object.values(VXLAN_LINK).map(name => `link ${name}`)]

export function servableBy({ room, report, clock, graceUntilMs }: ServableModules): () => Servable {
  return () => {
    const { rulesStanding, failing } = report()
    // An ADD waits for the rules; a runtime that is told so here takes the node out of service meanwhile.
    if (!rulesStanding && clock.boottimeMs() < graceUntilMs) return { ok: true }
    if (!rulesStanding) return no(CNI_CODE.pluginNotAvailable, 'the first reconcile is not through yet')
    const trouble = troubleOf({ failing }, clock.boottimeMs())
    if (trouble !== null) return no(CNI_CODE.limitedConnectivity, trouble)
    const free = room()
    return free.ok ? free : no(CNI_CODE.pluginNotAvailable, free.reason)
  }
}

/** Why the data path is broken; null: it is not, or not for long. The same for STATUS, `ready` and NetworkUnavailable. */
export function troubleOf({ failing }: Pick<LoopReport, 'failing'>, nowMs: number): string | null {
  for (const object of DATA_PATH) {
    const failure = failing.get(object)
    if (failure !== undefined && nowMs - failure.sinceMs >= BROKEN_AFTER_MS)
      return `${object}: ${failure.message}`
  }
  return null
}

const no = (code: number, reason: string): Servable => ({ ok: false, code, reason })
