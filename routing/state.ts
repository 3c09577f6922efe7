/**
 * The kernel objects that routing wants, as data. Each has a key that says which object it is; everything else
 * is an attribute, compared as a whole: a peer that keeps its address and changes its MAC is a change.
 *
 * Addresses and prefixes are text as lib/address formats it, so that equal means equal.
 */
import type { RouteSpec, VxlanAttributes } from '../kernel/kernel.ts'
import type { Family } from '../lib/address.ts'

/** rtnetlink.h: RT_SCOPE_UNIVERSE and RT_SCOPE_LINK. */
export const SCOPE = { global: 0, link: 253 } as const

/** What the kernel gives a route that names no metric: fib_frontend.c 0, ipv6_route.h IP6_RT_PRIO_USER 1024. */
export const DEFAULT_METRIC: Readonly<Record<Family, number>> = { 4: 0, 6: 1024 }
/** Worst of all: what a pool's range falls to when nothing else matches. */
export const POOL_METRIC = 0xffffffff
/** A part may be one address: its blackhole must not share a key with the route to the pod that holds it. */
export const BLACKHOLE_METRIC = 0xfffffffe

export interface DesiredLink {
  readonly name: string
  readonly mac: string
  readonly mtu: number
  readonly alias: string
  readonly vxlan: VxlanAttributes
}

/** Key: device, address, prefix. */
export interface DesiredAddress {
  readonly device: string
  readonly family: Family
  readonly address: string
  readonly prefix: number
  readonly scope: number
  readonly nodad: boolean
}

/** Key: family, dst, metric. */
export type DesiredRoute = RouteSpec & { readonly metric: number }

/** Key: device, address. */
export interface DesiredNeighbour {
  readonly device: string
  readonly family: Family
  readonly address: string
  readonly mac: string
}

/** Key: device, mac. */
export interface DesiredFdbEntry {
  readonly device: string
  readonly mac: string
  readonly dst: string
}

export interface DesiredSysctl {
  /** Below /proc/sys. */
  readonly path: string
  readonly value: string
}

export interface RoutingState {
  readonly links: readonly DesiredLink[]
  readonly addresses: readonly DesiredAddress[]
  readonly routes: readonly DesiredRoute[]
  readonly neighbours: readonly DesiredNeighbour[]
  readonly fdb: readonly DesiredFdbEntry[]
  readonly sysctls: readonly DesiredSysctl[]
}
