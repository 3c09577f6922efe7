/**
 * `twilld --uninstall`: takes Twill off this node, with the daemon stopped. In an order in which nobody is told of a network
 * that is no more: Kubernetes, network configuration, executables, kernel, cluster, state.
 *
 * Invariant: each step may be repeated, and the journal, which knows who this node is, goes last: killed anywhere, a
 * second run does the rest. What is out of reach (API server, datastore) is told and does not hold up the rest.
 */
import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { KubernetesClient } from '../../datastore/kubernetes/client.ts'
import { POOL_FINALIZER } from '../../datastore/resources/server-fields.ts'
import type { Holder } from '../../ipam/ipam.ts'
import type { Kernel } from '../../kernel/kernel.ts'
import { systemClock } from '../../lib/clock.ts'
import { isTwillError, messageOf } from '../../lib/errors.ts'
import { faultPoint } from '../../lib/fault.ts'
import type { Log } from '../../lib/log.ts'
import { pluginFolder } from '../cni/chain.ts'
import { EXECUTABLES, removeExecutables } from '../cni/executables.ts'
import type { Config } from '../config.ts'
import { connectDaemon } from '../kubernetes/connection.ts'
import { leaveByConfig, leaveText, observeMachine, openLocal, withKernel } from '../leave.ts'
import { type LocalState, lockNode } from '../local-state.ts'
import { clearKernel } from './clear-kernel.ts'
import { sayUnavailable } from './node-object.ts'
import { letPoolsGo } from './pools.ts'
import { removeConflist, removeState } from './remove-files.ts'
import { type Residents, refuseResidents, residentsOf } from './residents.ts'

export interface UninstallOptions {
  /** Also when pods live here: they are cut off. */
  readonly force: boolean
}

export interface UninstallModules {
  readonly log: Log
  /** Hears a line of each thing that is gone, or that stays. */
  readonly tell: (line: string) => void
}

/** The steps' own modules: all that is not a file. */
export interface StepModules extends UninstallModules {
  readonly boot: string
  readonly kernel: Kernel
  readonly local: Pick<LocalState, 'found' | 'node' | 'append'>
  /** null: nobody knows of this node but itself. */
  readonly leave: ((isOver: (holder: Holder) => boolean) => Promise<Left>) | null
  /** @returns whether it had to be said. null: this node is none of Kubernetes. */
  readonly sayUnavailable: (() => Promise<boolean>) | null
  /** @returns names. null: pools are none of Kubernetes. */
  readonly letPoolsGo: (() => Promise<readonly string[]>) | null
}

interface Left {
  /** What an operator is told. */
  readonly text: string
  /** No other node is in the cluster. */
  readonly last: boolean
}

/**
 * @throws node.already-running: its daemon is to be stopped first; resource.in-use: somebody lives here, and nothing
 *   was changed; kernel.failed, naming what stays; journal.damaged; an Error of the file system
 */
export async function uninstall(
  config: Config,
  options: UninstallOptions,
  { log, tell }: UninstallModules,
): Promise<void> {
  const known = await present([config.stateDir, config.runDir])
  const lock = await lockNode(config.runDir, config.stateDir)
  try {
    await withKernel(config, log, async kernel => {
      const machine = await observeMachine(config, { kernel, log })
      const local = await openLocal(config, machine, log)
      try {
        await takeOff(config, options, {
          log,
          tell,
          boot: machine.boot,
          kernel,
          local,
          leave: leavesCluster(config)
            ? async isOver => {
                const left = await leaveByConfig(config, machine, { local, log, isOver })
                return { text: leaveText(config, left), last: left.last }
              }
            : null,
          ...inKubernetes(config, log),
        })
      } finally {
        await local.close()
      }
    })
    const { gone, kept } = await removeState(config)
    // Those that only this run has made are nothing to tell of.
    for (const folder of gone.filter(each => known.has(each))) tell(`removed ${folder}`)
    for (const reason of kept) tell(`stays: ${reason}`)
    faultPoint('uninstall.state-removed')
    tell(`Twill is off node ${config.nodeName}`)
  } finally {
    lock.release()
  }
}

const leavesCluster = ({ datastore }: Config): boolean => datastore.type !== 'embedded'

async function present(folders: readonly string[]): Promise<ReadonlySet<string>> {
  const found = folders.map(async folder =>
    stat(folder).then(
      () => [folder],
      () => [],
    ),
  )
  return new Set((await Promise.all(found)).flat())
}

function inKubernetes(
  { kubernetes, nodeName }: Config,
  log: Log,
): Pick<StepModules, 'sayUnavailable' | 'letPoolsGo'> {
  if (!kubernetes.enabled) return { sayUnavailable: null, letPoolsGo: null }
  const asked = async <T>(ask: (client: KubernetesClient) => Promise<T>): Promise<T> => {
    const client = await connectDaemon(kubernetes, { clock: systemClock, log })
    return ask(client).finally(() => client.close())
  }
  return {
    sayUnavailable: () => asked(client => sayUnavailable(nodeName, { client, clock: systemClock })),
    letPoolsGo: () => asked(letPoolsGo),
  }
}

/** All but the state folder, on which it stands. @throws as uninstall */
export async function takeOff(
  config: Pick<Config, 'cni' | 'nodeName' | 'stateDir'>,
  { force }: UninstallOptions,
  modules: StepModules,
): Promise<void> {
  const { boot, kernel, local, tell } = modules
  const spool = join(config.stateDir, 'spool')
  const residents = await residentsOf({ boot, spool, found: local.found }, kernel)
  if (!force) refuseResidents(residents)
  await tellKubernetes(config.nodeName, modules)
  await takeBackAnnouncement(config.cni, tell)
  await cutOff(modules)
  await leaveCluster(config, residents, modules)
  faultPoint('uninstall.left')
}

/** No further pod is to be sent here. */
async function tellKubernetes(
  name: string,
  { sayUnavailable: say, tell }: Pick<StepModules, 'sayUnavailable' | 'tell'>,
): Promise<void> {
  if (say === null) return
  try {
    if (await say()) tell(`Node ${name} in Kubernetes: NetworkUnavailable is True`)
  } catch (error) {
    if (!isTwillError(error)) throw error
    tell(`stays: Node ${name} in Kubernetes still says that its network is available: ${error.message}`)
  }
}

/** The configuration first: a runtime must not be told of executables that are gone. */
async function takeBackAnnouncement(
  { conflist, binDir }: Config['cni'],
  tell: (line: string) => void,
): Promise<void> {
  if (conflist === null) tell('stays: the network configuration, which is not ours (cni.conflist is null)')
  else for (const path of await removeConflist(conflist)) tell(`removed ${path}`)
  faultPoint('uninstall.conflist-removed')
  if (binDir !== null) for (const path of await removeExecutables(binDir)) tell(`removed ${path}`)
  else {
    const folder = await pluginFolder(null)
    if (folder !== null)
      tell(
        `stays: ${EXECUTABLES.join(', ')} in ${folder}, which are not ours (cni.binDir is not set): remove them`,
      )
  }
  faultPoint('uninstall.executables-removed')
}

/** A daemon that is started after all must not take those for pods whose links are gone. */
async function cutOff({ boot, kernel, local, log, tell }: StepModules): Promise<void> {
  const attachments = [...local.found.attachments.values()]
  const addresses = attachments
    .filter(each => each.boot === boot)
    .flatMap(each => each.addresses.map(({ address }) => address))
  await clearKernel(addresses, { kernel, removed: what => tell(`removed ${what}`) })
  try {
    for (const { id } of attachments) await local.append({ t: 'gone', id })
  } catch (error) {
    // A full disk: the journal goes too, soon.
    log.warn({ error: messageOf(error) }, 'the journal could not be written; the rest goes on')
  }
  faultPoint('uninstall.kernel-cleared')
}

async function leaveCluster(
  { nodeName, stateDir }: Pick<Config, 'nodeName' | 'stateDir'>,
  { leases }: Residents,
  modules: StepModules,
): Promise<void> {
  const { leave, local, tell } = modules
  if (leave === null) return
  const ending = `if there is a node ${nodeName}, which twillctl get nodes tells, end it with: twillctl delete node ${nodeName}`
  if (local.node === null) return tell(`${stateDir} knows of no cluster; ${ending}`)
  const living = new Set(leases.map(({ id }) => id))
  const known = local.found.leases
  // Of a lease that only the ledger knows nobody can tell whether it is over.
  const isOver = ({ id, kind }: Holder) => kind !== 'ipam' || (known.has(id) && !living.has(id))
  try {
    const { text, last } = await leave(isOver)
    tell(text)
    if (last) await releasePools(modules)
  } catch (error) {
    if (!isTwillError(error)) throw error
    tell(`stays: the cluster was not left (${error.message}); ${ending}`)
  }
}

async function releasePools({
  letPoolsGo: ask,
  tell,
}: Pick<StepModules, 'letPoolsGo' | 'tell'>): Promise<void> {
  if (ask === null) return
  try {
    const names = await ask()
    if (names.length > 0)
      tell(`this was the last node: pools in Kubernetes can be deleted (${names.join(', ')})`)
  } catch (error) {
    if (!isTwillError(error)) throw error
    tell(`stays: the finalizer ${POOL_FINALIZER} of pools in Kubernetes, which keeps them: ${error.message}`)
  }
}
