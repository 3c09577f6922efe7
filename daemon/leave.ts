/**
 * `twilld --leave`: takes this node out of its cluster, with the daemon stopped. Touches the datastore and the journal, and
 * nothing in the kernel: pods that still run here keep running, their addresses are free after the allowance.
 *
 * `twilld --uninstall` (uninstall/) leaves likewise, when nobody here has an address of ours any more.
 */
import * as files from 'node:fs/promises'
import { join } from 'node:path'
import { bindCluster } from '../datastore/cluster.ts'
import { openDatastore } from '../datastore/open.ts'
import type { Store } from '../datastore/store.ts'
import type { Holder } from '../ipam/ipam.ts'
import { type Leave, leaveCluster } from '../ipam/leave.ts'
import { createIpam, type NodeIpam } from '../ipam/node-ipam.ts'
import { minutesUntilFree } from '../ipam/removal.ts'
import type { Kernel } from '../kernel/kernel.ts'
import { createKernel } from '../kernel/real.ts'
import { type Clock, systemClock } from '../lib/clock.ts'
import { messageOf, TwillError } from '../lib/errors.ts'
import type { Log } from '../lib/log.ts'
import { counted } from '../lib/plural.ts'
import { systemRandom } from '../lib/random.ts'
import type { Config } from './config.ts'
import { livingHolders } from './journal/holders.ts'
import { connectIfEnabled } from './kubernetes/connection.ts'
import { LocalState, lockNode } from './local-state.ts'
import { hardwareOf, readBoot, readProductUuid } from './node/boot.ts'
import { observeSelf } from './node/self.ts'
import { SNAPSHOT_FILE } from './node/snapshot-file.ts'
import { workerUrl } from './worker-url.ts'

/** Several times what a store that answers needs. */
const PATIENCE_MS = 30_000

export interface Machine {
  readonly boot: string
  readonly hardware: string
}

export interface LeavingModules {
  readonly local: LocalState
  readonly store: Store
  readonly clock: Clock
  readonly log: Log
  /** Who has been taken off the network, whatever records say: his addresses are free. Default: nobody. */
  readonly isOver?: (holder: Holder) => boolean
}

/**
 * @throws node.already-running: its daemon is to be stopped first; resource.not-found: it is in no cluster;
 *   node.name-taken: the state folder is another machine's; config.invalid; store.*, journal.*
 */
export async function leave(config: Config, { log }: { readonly log: Log }): Promise<Leave> {
  if (config.datastore.type === 'embedded')
    throw new TwillError(
      'config.invalid',
      'datastore.type embedded: expected etcd: a single node has nobody to leave',
    )
  const lock = await lockNode(config.runDir, config.stateDir)
  try {
    const machine = await withKernel(config, log, kernel => observeMachine(config, { kernel, log }))
    const local = await openLocal(config, machine, log)
    try {
      return await leaveByConfig(config, machine, { local, log })
    } finally {
      await local.close()
    }
  } finally {
    lock.release()
  }
}

/** What an operator is told of it. */
export function leaveText({ nodeName, fenceMargin }: Config, { freed, fenced, allowanceMs }: Leave): string {
  const minutes = minutesUntilFree(allowanceMs, fenceMargin)
  const kept = `${counted(fenced, 'part')} in which pods live ${fenced === 1 ? 'is' : 'are'} fenced`
  const rest = fenced === 0 ? '' : `; ${kept}, free after ${minutes} min`
  const given = `${counted(freed, 'part')} ${freed === 1 ? 'is' : 'are'} free`
  return `Node ${nodeName} has left: ${given}${rest}`
}

export async function withKernel<T>(
  config: Config,
  log: Log,
  use: (kernel: Kernel) => Promise<T>,
): Promise<T> {
  const kernel = await createKernel(
    { workerUrl: workerUrl(), host: config.host },
    { log, onDead: () => undefined },
  )
  try {
    return await use(kernel)
  } finally {
    await kernel.close()
  }
}

export async function observeMachine(
  { underlay }: Config,
  { kernel, log }: { readonly kernel: Kernel; readonly log: Log },
): Promise<Machine> {
  const boot = await readBoot(await kernel.ownNetnsCookie())
  const self = await observeSelf(underlay, { kernel, log }).catch(error => {
    log.warn({ error: messageOf(error) }, 'the underlay is not known')
    return null
  })
  const device = self?.underlay[0]?.device ?? ''
  return { boot, hardware: hardwareOf(await readProductUuid(), await kernel.readLinks(), device) }
}

/** @throws journal.damaged, journal.write-failed */
export function openLocal({ stateDir, coolDown }: Config, { boot }: Machine, log: Log): Promise<LocalState> {
  return LocalState.open({ stateDir, boot, coolDownMs: coolDown }, { clock: systemClock, log })
}

/** With the datastore of the configuration. @throws as leave */
export async function leaveByConfig(
  config: Config,
  machine: Machine,
  modules: Omit<LeavingModules, 'store' | 'clock'>,
): Promise<Leave> {
  const system = { clock: systemClock, random: systemRandom, log: modules.log }
  const client = await connectIfEnabled(config.kubernetes, system)
  const datastore = await openDatastore(config.datastore, config, {
    ...system,
    files,
    readFile: path => files.readFile(path),
    kubernetes: client === null ? null : { client, facts: null },
  })
  try {
    return await leaveWith(config, machine, { ...modules, store: datastore.store, clock: systemClock })
  } finally {
    await datastore.close()
    client?.close()
  }
}

/** @throws as leave */
export async function leaveWith(
  config: Config,
  { boot, hardware }: Machine,
  modules: LeavingModules,
): Promise<Leave> {
  const { local, store, clock } = modules
  const { node } = local
  if (node === null)
    throw new TwillError('resource.not-found', `${config.stateDir} knows of no cluster: nothing to leave`)
  await bindCluster(node.clusterUid, { store, random: systemRandom })
  await local.append({ t: 'tunnel', addresses: [], since: clock.realtimeMs() })
  const ipam = startIpam(config, boot, node.uid, modules)
  const { uid, name } = node
  try {
    const leaving = releaseThoseOver(ipam, modules).then(() =>
      leaveCluster({ uid, name, hardware }, { store, random: systemRandom, ipam }),
    )
    const left = await inTime(leaving, clock)
    await files.unlink(join(config.stateDir, SNAPSHOT_FILE)).catch(() => undefined)
    return left
  } finally {
    await ipam.stop()
  }
}

/** As their DEL would have: the addresses cool down, wherever they go. */
async function releaseThoseOver(ipam: NodeIpam, { isOver }: LeavingModules): Promise<void> {
  if (isOver === undefined) return
  await ipam.ready()
  for (const { holder } of ipam.holders()) if (isOver(holder)) ipam.release(holder.id)
}

function startIpam(
  config: Config,
  boot: string,
  nodeUid: string,
  { local, store, clock, log }: LeavingModules,
): NodeIpam {
  const ipam = createIpam(
    {
      nodeUid,
      nodeName: config.nodeName,
      boot,
      offlineAllowanceMs: config.offlineAllowance,
      marginMs: config.fenceMargin,
      coolDownMs: config.coolDown,
      // Nothing is claimed any more.
      lowWater: 0,
      journaled: local.ipamState(),
      journalIntact: local.intact,
    },
    {
      store,
      clock,
      random: systemRandom,
      log,
      journal: { append: record => local.append({ t: 'ipam', record }) },
    },
  )
  // A node that leaves needs no tunnel.
  ipam.restore(livingHolders(local.found, boot))
  ipam.start()
  return ipam
}

async function inTime<T>(work: Promise<T>, clock: Clock): Promise<T> {
  const giveUp = new AbortController()
  const late = clock.sleep(PATIENCE_MS, giveUp.signal).then(() => {
    throw new TwillError(
      'store.unavailable',
      'the datastore does not answer: the node has not left, or not wholly. Run this again',
      {},
      { retryable: true },
    )
  })
  try {
    return await Promise.race([work, late])
  } finally {
    giveUp.abort()
  }
}
