/** One node's address management as its daemon runs it, for the bench: journal on disk, ledgers in etcd. */
import { join } from 'node:path'
import { Journal } from '../daemon/journal/journal.ts'
import { EtcdStore } from '../datastore/etcd/store.ts'
import { livenessKey } from '../datastore/keys.ts'
import type { LivenessRecord } from '../datastore/records/liveness.ts'
import type { HeldAddress, Holder } from '../ipam/ipam.ts'
import { replay } from '../ipam/journal-records.ts'
import { createIpam, type NodeIpam } from '../ipam/node-ipam.ts'
import { systemClock } from '../lib/clock.ts'
import { isTwillError } from '../lib/errors.ts'
import { silentLog } from '../lib/log.ts'
import { systemRandom } from '../lib/random.ts'

const PATIENCE_MS = 30_000
const modules = { clock: systemClock, random: systemRandom, log: silentLog }

export async function openNode(uid: string, endpoint: string, folder: string): Promise<AllocatingNode> {
  const journal = await Journal.create(join(folder, `journal-${uid}`), [])
  const store = new EtcdStore({ endpoints: [endpoint] }, modules)
  await store.commit({ key: livenessKey(uid), expected: 0, value: JSON.stringify(livenessOf(uid)) })
  const ipam = createIpam(
    { nodeUid: uid, nodeName: uid, boot: 'b', journaled: replay([]), journalIntact: true },
    { ...modules, store, journal: { append: async record => journal.append({ t: 'ipam', record }) } },
  )
  ipam.start()
  await ipam.ready()
  return new AllocatingNode({ ipam, store, journal })
}

/** Only members of the cluster are given what they ask other nodes for. */
const livenessOf = (uid: string): LivenessRecord => ({
  v: 1,
  uid,
  name: uid,
  hardware: uid,
  heartbeat: 1,
  heartbeatMs: 10_000,
  allowanceMs: 3_600_000,
  removed: null,
})

export class AllocatingNode {
  readonly #modules: { readonly ipam: NodeIpam; readonly store: EtcdStore; readonly journal: Journal }

  constructor(modules: { ipam: NodeIpam; store: EtcdStore; journal: Journal }) {
    this.#modules = modules
  }

  /** Commits sent. */
  get transactions(): number {
    return this.#modules.store.status().commits
  }

  /** As ADD does it: address, intent in the journal, ledger later. */
  async add(id: string): Promise<void> {
    const { ipam, journal } = this.#modules
    const holder = holderOf(id)
    const addresses = await this.#allocate(holder)
    journal.append({ t: 'attach', holder, addresses })
    ipam.recorded(id)
  }

  /** Tried again as runtimes do, and as long. */
  async #allocate(holder: Holder): Promise<readonly HeldAddress[]> {
    const end = systemClock.boottimeMs() + PATIENCE_MS
    for (;;)
      try {
        return await this.#modules.ipam.allocate({ holder, families: [4], pools: [] })
      } catch (error) {
        if (!isTwillError(error) || !error.retryable || systemClock.boottimeMs() > end) throw error
        await systemClock.sleep(20)
      }
  }

  /** Resolves when so many more stand in etcd, with ids that begin so. */
  async burst(ids: string, count: number, inFlight: number): Promise<void> {
    let next = 0
    const work = async () => {
      while (next < count) await this.add(`${ids}-${next++}`)
    }
    await Promise.all(Array.from({ length: inFlight }, work))
    await this.settled()
  }

  settled(): Promise<void> {
    return this.#modules.ipam.settled()
  }

  async close(): Promise<void> {
    const { ipam, store, journal } = this.#modules
    await ipam.stop()
    await store.close()
    await journal.close()
  }
}

const holderOf = (id: string): Holder => ({
  id,
  kind: 'pod',
  network: 'twill',
  containerId: `container-${id}-0123456789abcdef0123456789abcdef`,
  ifName: 'eth0',
  pod: { namespace: 'default', name: id, uid: `uid-${id}` },
  since: 1,
})
