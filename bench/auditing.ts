/** `twillctl ipam check` of a datastore with many allocations, filled with what daemons would have written. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import type { CheckedDatastore } from '../cli/render/audit.ts'
import { ledgerKey, livenessKey, nodeKey, slotKey } from '../datastore/keys.ts'
import type { LedgerRecord } from '../datastore/records/ledger.ts'
import type { SlotRecord } from '../datastore/records/slot.ts'
import type { Store } from '../datastore/store.ts'
import { ROOT } from '../hack/rig/layout.ts'
import { addressAt, type Cidr, formatCidr, formatIp, parseCidr } from '../lib/address.ts'

export interface Audited {
  readonly ms: number
  /** Peak of its resident memory. */
  readonly residentMiB: number
  readonly addresses: number
  readonly findings: number
}

const NODES = 100
const SLOT_PREFIX = 26
const SLOT_ADDRESSES = 64

/** @param pool opened in the address space; its slots are written here, full, until there are so many addresses */
export async function fill(store: Store, pool: { uid: string; cidr: string }, addresses: number) {
  await Promise.all(Array.from({ length: NODES }, (_, i) => enterNode(store, `node${i}`)))
  const { base } = parseCidr(pool.cidr)
  const slots = Array.from({ length: Math.ceil(addresses / SLOT_ADDRESSES) }, (_, i): Cidr => {
    const offset = base + BigInt(i * SLOT_ADDRESSES)
    return { family: 4, base: offset, prefix: SLOT_PREFIX }
  })
  let next = 0
  const work = async () => {
    while (next < slots.length) {
      const index = next++
      await enterSlot(store, pool.uid, slots[index] as Cidr, `node${index % NODES}`)
    }
  }
  await Promise.all(Array.from({ length: 32 }, work))
}

const put = (store: Store, key: string, value: unknown) =>
  store.commit({ key, expected: 0, value: JSON.stringify(value) })

async function enterNode(store: Store, name: string): Promise<void> {
  const node = { v: 1, name, uid: name, incarnation: 'i', underlay: {}, hostAddresses: [], vteps: [] }
  await put(store, nodeKey(name), { ...node, tunnel: {} })
  const life = { v: 1, uid: name, name, hardware: name, heartbeat: 1, heartbeatMs: 10_000 }
  await put(store, livenessKey(name), { ...life, allowanceMs: 3_600_000, removed: null })
}

async function enterSlot(store: Store, poolUid: string, slot: Cidr, owner: string): Promise<void> {
  const cidr = formatCidr(slot)
  const part = { cidr, owner, generation: 1, claim: `claim-${cidr}`, fence: null, cooling: {} }
  const record: SlotRecord = { v: 1, generation: 1, parts: [part], requests: [] }
  const entries = Array.from({ length: SLOT_ADDRESSES }, (_, i) => entryAt(slot, i))
  const generations = { 1: Object.fromEntries(entries) }
  const ledger: LedgerRecord = { v: 1, owner, generations, recent: [] }
  await put(store, slotKey(poolUid, slot), record)
  await put(store, ledgerKey(poolUid, slot, owner), ledger)
}

function entryAt(slot: Cidr, offset: number) {
  const address = formatIp(addressAt(slot, offset))
  const [holder, containerId] = [`id-${address}`, `0123456789abcdef0123456789abcdef-${address}`]
  const pod = { namespace: 'default', name: `pod-${address}`, uid: `uid-${address}` }
  const rest = { network: 'twill', containerId, ifName: 'eth0', pod, since: 1, boot: 'b:1' }
  return [address, { holder, kind: 'pod' as const, ...rest }] as const
}

const LOOK_MS = 20

/** As on a machine without a daemon: the datastore's half. @throws Error: it could not be read */
export async function audit(endpoint: string): Promise<Audited> {
  const begin = performance.now()
  const flags = ['--etcd-endpoints', endpoint, '--socket', '/nonexistent']
  const child = spawn(join(ROOT, 'dist/bin/twillctl'), ['ipam', 'check', '-o', 'json', ...flags], {
    env: { PATH: process.env.PATH },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let residentMiB = 0
  const looks = setInterval(() => {
    residentMiB = Math.max(residentMiB, peakOf(child.pid as number))
  }, LOOK_MS)
  const [said] = await Promise.all([text(child.stdout), once(child, 'exit')])
  clearInterval(looks)
  const ms = performance.now() - begin
  const { datastore } = JSON.parse(said) as { datastore: CheckedDatastore & { error: string | null } }
  if (datastore.error !== null) throw new Error(`twillctl ipam check: ${datastore.error}`)
  return {
    ms,
    residentMiB,
    addresses: datastore.compared.addresses,
    findings: datastore.findings.length,
  }
}

/** MiB (VmHWM); 0 when it has ended. */
function peakOf(pid: number): number {
  try {
    const [, kib] = /^VmHWM:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? []
    return Number(kib ?? 0) / 1024
  } catch {
    return 0
  }
}
