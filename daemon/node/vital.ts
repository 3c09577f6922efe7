/**
 * What this node lives by: its own addresses on the underlay, the next hops of its default routes, and the servers that it
 * is configured to speak to, where they are addresses and no names. No pool may take these from it (ipam/covered.ts).
 */
import { type Vital, vitalOf } from '../../ipam/covered.ts'
import type { Config } from '../config.ts'
import type { Observation } from './self.ts'

export interface Servers {
  readonly datastore: Config['datastore']
  /** URL of the API server; null: none. */
  readonly apiServer: string | null
}

/** The same array while what was observed is the same. */
export function vitalsOf(servers: Servers, observation: () => Observation): () => readonly Vital[] {
  const fixed = serverVitals(servers)
  let last: { readonly of: Observation; readonly vitals: readonly Vital[] } | null = null
  return () => {
    const of = observation()
    if (last?.of !== of) last = { of, vitals: [...observedVitals(of), ...fixed] }
    return last.vitals
  }
}

function observedVitals({ underlay, nextHops }: Observation): Vital[] {
  return [
    ...underlay.flatMap(({ address }) => vitalOf(address, 'the address of this node')),
    ...nextHops.flatMap(address => vitalOf(address, 'the next hop of a default route')),
  ]
}

function serverVitals({ datastore, apiServer }: Servers): Vital[] {
  const endpoints = datastore.type === 'etcd' ? datastore.endpoints : []
  return [
    ...endpoints.flatMap(url => vitalOf(hostOf(url), 'an endpoint of the datastore')),
    ...(apiServer === null ? [] : vitalOf(hostOf(apiServer), 'the address of the API server')),
  ]
}

/** Without the brackets of an IPv6 address. */
function hostOf(url: string): string {
  try {
    return new URL(url).hostname.replace(/^\[|\]$/g, '')
  } catch {
    return ''
  }
}
