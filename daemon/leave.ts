/**
 * `twilld --leave`: takes this node out of its cluster, with the daemon stopped. Touches the datastore and the journal, and
 * nothing in the kernel: pods that still run here keep running, their addresses are free after the allowance.
 */
import * as files from 'node:fs/promises'
import { join } from 'node:path'
import { bindCluster } from '../datastore/cluster.ts'
import { openDatastore } from '../datastore/open.ts'
import type { Store } from '../datastore/store.ts'
import { type Leave, leaveCluster } from '../ipam/leave.ts'
import { createIpam, type NodeIpam } from '../ipam/node-ipam.ts'
import { createKernel } from '../kernel/real.ts'
import { systemClock } from '../lib/clock.ts'
import { messageOf, TwillError } from '../lib/errors.ts'
import type { Log } from '../lib/log.ts'
import { systemRandom } from '../lib/random.ts'
import type { Config } from './config.ts'
import { livingHolders } from './journal/holders.ts'
import { LocalState, lockNode } from './local-state.ts'
import { hardwareOf, readBoot, readProductUuid } from './node/boot.ts'
import { observeSelf } from './node/self.ts'
import { SNAPSHOT_FILE } from './node/snapshot-file.ts'
import { workerUrl } from './worker-url.ts'

/** Several times what a store that answers needs. */
const PATIENCE_MS = 30_000

interface Machine {
  readonly boot: string
  readonly hardware: string
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
    const machine = await observeMachine(config, log)
    const local = await LocalState.open(
      { stateDir: config.stateDir, boot: machine.boot, coolDownMs: config.coolDown },
      { clock: systemClock, log },
    )
    const modules = { clock: systemClock, random: systemRandom, log, files }
    const readFile = (path: string) => files.readFile(path)
    const datastore = await openDatastore(config.datastore, config, {
      ...modules,
      readFile,
      environment: process.env,
    })
    try {
      return await leaveWith(config, machine, { local, store: datastore.store, log })
    } finally {
      await datastore.close()
      await local.close()
    }
  } finally {
    lock.release()
  }
}

async function observeMachine(config: Config, log: Log): Promise<Machine> {
  const kernel = await createKernel(
    { workerUrl: workerUrl(), host: config.host },
    { log, onDead: () => undefined },
  )
  try {
    const boot = await readBoot(await kernel.ownNetnsCookie())
    const self = await observeSelf(config.underlay, { kernel, log }).catch(error => {
      log.warn({ error: messageOf(error) }, 'the underlay is not known')
      return null
    })
    const device = self?.underlay[0]?.device ?? ''
    return { boot, hardware: hardwareOf(await readProductUuid(), await kernel.readLinks(), device) }
  } finally {
    await kernel.close()
  }
}

async function leaveWith(
  config: Config,
  { boot, hardware }: Machine,
  modules: { readonly local: LocalState; readonly store: Store; readonly log: Log },
): Promise<Leave> {
  const { local, store } = modules
  const { node } = local
  if (node === null)
    throw new TwillError('resource.not-found', `${config.stateDir} knows of no cluster: nothing to leave`)
  await bindCluster(node.clusterUid, { store, random: systemRandom })
  await local.append({ t: 'tunnel', addresses: [], since: systemClock.realtimeMs() })
  const ipam = startIpam(config, boot, node.uid, modules)
  try {
    const left = await inTime(
      leaveCluster({ uid: node.uid, name: node.name, hardware }, { store, random: systemRandom, ipam }),
    )
    await files.unlink(join(config.stateDir, SNAPSHOT_FILE)).catch(() => undefined)
    return left
  } finally {
    await ipam.stop()
  }
}

function startIpam(
  config: Config,
  boot: string,
  nodeUid: string,
  { local, store, log }: { readonly local: LocalState; readonly store: Store; readonly log: Log },
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
      clock: systemClock,
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

async function inTime<T>(work: Promise<T>): Promise<T> {
  const giveUp = new AbortController()
  const late = systemClock.sleep(PATIENCE_MS, giveUp.signal).then(() => {
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
