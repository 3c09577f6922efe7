/** What may be typed after hack/e2e-upstream. Pure. */
import { parseArgs } from 'node:util'
import { UsageError } from '../rig/grammar.ts'
import { parse as parseRig } from '../rig/kubernetes/grammar.ts'
import type { KindWishes } from '../rig/kubernetes/kind.ts'
import { CONFORMANCE } from './suite.ts'

export const USAGE = `usage: hack/e2e-upstream [FOCUS]      Kubernetes' own tests whose names match FOCUS (a regular expression), on a rig
  default FOCUS: ${CONFORMANCE}
  --skip REGEXP           leave these out (default: what wants the cluster for itself)
  --processes N           tests at once (default 6)
  --keep                  leave the rig up; a rig that is up already is used, and left
  --nodes, --cni, --proxy, --containerd ...   as hack/kubernetes up has them (TWILL_CLUSTER names the rig)`

export interface Invocation {
  focus: string
  skip: string | undefined
  processes: number | undefined
  keep: boolean
  rig: { nodes: number | undefined; wishes: KindWishes }
}

const text = { type: 'string' as const }
const OWN = { skip: text, processes: text, keep: { type: 'boolean' as const } }
const OF_THE_RIG = { nodes: text, cni: text, proxy: text, containerd: text }

/** @throws UsageError */
export function parse(argv: readonly string[]): Invocation {
  const { values, positionals } = read(argv)
  if (positionals.length > 1) throw new UsageError(`expected one FOCUS, found ${positionals.join(' ')}`)
  const { skip, processes, keep = false, ...rest } = values
  const { nodes, wishes } = parseRig([
    'up',
    ...Object.entries(rest).flatMap(([key, value]) => [`--${key}`, value]),
  ])
  return {
    focus: positionals[0] ?? CONFORMANCE,
    skip,
    processes: count(processes),
    keep,
    rig: { nodes, wishes },
  }
}

function read(argv: readonly string[]) {
  try {
    return parseArgs({ args: [...argv], options: { ...OWN, ...OF_THE_RIG }, allowPositionals: true })
  } catch (error) {
    throw new UsageError((error as Error).message)
  }
}

function count(given: string | undefined): number | undefined {
  if (given === undefined) return undefined
  if (!/^[1-9]\d?$/.test(given)) throw new UsageError(`--processes ${given}: expected 1 to 99`)
  return Number(given)
}
