/**
 * Builds the daemon from its modules, in the order in which each can do its work:
 *
 *   lock and journal → kernel → who we are in the store → addresses → attachments recovered, spool drained
 *   → CNI socket → loop, registration, heartbeat → first reconcile → runtimes are told
 *
 * The API socket answers from early on, so that an operator sees what a start waits for. Until the CNI socket is
 * open the executable works by itself (twill-offline).
 */
import { readFile, stat, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { CNI_CODE } from '../cni-bin/cni-error.ts'
import { dispatch } from '../cni-bin/dispatch.ts'
import type { Answer, Request } from '../cni-bin/frame.ts'
import type { RequestContext } from '../cni-bin/request.ts'
import { parseRequest } from '../cni-bin/request.ts'
import { bindCluster } from '../datastore/cluster.ts'
import type { EtcdOptions } from '../datastore/etcd/options.ts'
import { EtcdStore } from '../datastore/etcd/store.ts'
import type { NodeRecord } from '../datastore/records/node.ts'
import { Heartbeat } from '../ipam/heartbeat.ts'
import { establishIdentity } from '../ipam/identity.ts'
import { createIpam, type NodeIpam } from '../ipam/node-ipam.ts'
import { ensureFirstPools } from '../ipam/pools.ts'
import type { Kernel } from '../kernel/kernel.ts'
import { createKernel } from '../kernel/real.ts'
import { type Clock, systemClock } from '../lib/clock.ts'
import { isTwillError, messageOf, TwillError } from '../lib/errors.ts'
import { faultPoint } from '../lib/fault.ts'
import type { Log } from '../lib/log.ts'
import { systemRandom } from '../lib/random.ts'
import { endpointElements } from '../routing/vxlan/elements.ts'
import { ApiServer } from './api/server.ts'
import type { Status } from './api/types.ts'
import { Attachments } from './attach/attachments.ts'
import { Registry } from './attach/registry.ts'
import { CniServer } from './attach/server.ts'
import { Spool } from './attach/spool.ts'
import { createVerbs } from './attach/verbs.ts'
import type { Config } from './config.ts'
import { conflistText, installConflist } from './conflist.ts'
import { LocalState, lockNode } from './local-state.ts'
import { LOOP, Loop } from './loop.ts'
import { createMetrics } from './metrics.ts'
import { hardwareOf, readBoot, readProductUuid } from './node/boot.ts'
import { Cluster } from './node/cluster.ts'
import { NodeFacts } from './node/facts.ts'
import { Registration } from './node/registration.ts'
import { observeSelf } from './node/self.ts'
import { TunnelAddresses, tunnelHolder } from './node/tunnel.ts'
import { statusOf } from './status.ts'

export interface DaemonModules {
  readonly log: Log
  /** Ends the process: the daemon must not go on. */
  readonly fail: (error: unknown) => void
}

export interface Daemon {
  /** Leaves the kernel as it is. */
  stop(): Promise<void>
}

/** A start without the store, once this node has been in the cluster before, waits this long for it. */
const STORE_PATIENCE_MS = 4_000
const RETRY_MS = 1_000
/** An ADD waits this long for the table before it answers "try again later". */
const GATE_PATIENCE_MS = 5_000
const ALIVE_EVERY_MS = 5_000
const REAP_DELAY_MS = 25

export async function startDaemon(config: Config, modules: DaemonModules): Promise<Daemon> {
  const { log, fail } = modules
  const lock = await lockNode(config.runDir, config.stateDir)
  const kernel = await createKernel({ workerUrl: workerUrl() }, { log, onDead: fail })
  const boot = await readBoot(await kernel.ownNetnsCookie())
  const local = await LocalState.open(
    { stateDir: config.stateDir, boot, coolDownMs: config.coolDown },
    { clock: systemClock, log },
  )
  const store = new EtcdStore(await etcdOptions(config), { clock: systemClock, random: systemRandom, log })
  const base: Base = { config, log, fail, kernel, boot, local, store, startedAt: new Date().toISOString() }
  let node: RunningNode | null = null
  let waitingFor = 'starting'
  const status = () => node?.status() ?? startingStatus(base, waitingFor)
  const metrics = createMetrics({ status })
  const api = new ApiServer(
    { socketPath: join(config.runDir, 'api.sock'), metricsAddress: config.metricsAddress },
    { status, metrics: metrics.text },
  )
  await api.listen()
  const started = startNode(base, metrics, reason => {
    waitingFor = reason
  }).then(running => {
    node = running
  }, fail)
  return {
    async stop() {
      await api.close()
      await Promise.race([started, systemClock.sleep(0)])
      await node?.stop()
      await store.close()
      await local.close()
      await kernel.close()
      lock.release()
    },
  }
}

interface Base {
  readonly config: Config
  readonly log: Log
  readonly fail: (error: unknown) => void
  readonly kernel: Kernel
  readonly boot: string
  readonly local: LocalState
  readonly store: EtcdStore
  readonly startedAt: string
}

interface RunningNode {
  status(): Status
  stop(): Promise<void>
}

/** The bundle has its worker beside it; from source it is found by the kernel itself. */
function workerUrl(): URL | undefined {
  return import.meta.url.endsWith('.mjs') ? new URL('./kernel-worker.mjs', import.meta.url) : undefined
}

async function etcdOptions({ datastore }: Config): Promise<EtcdOptions> {
  const { endpoints, prefix, tls, username, passwordFile } = datastore
  const optional = async (path: string | undefined) => (path === undefined ? undefined : await readFile(path))
  const [ca, cert, key] = await Promise.all([tls?.ca, tls?.cert, tls?.key].map(optional))
  const password = await optional(passwordFile)
  return {
    endpoints,
    prefix,
    ...(ca === undefined
      ? {}
      : { tls: { ca, ...(cert === undefined ? {} : { cert }), ...(key === undefined ? {} : { key }) } }),
    ...(username === undefined
      ? {}
      : { auth: { username, password: password?.toString('utf8').trim() ?? '' } }),
  }
}

// ---------------------------------------------------------------- who we are

interface Identified {
  readonly uid: string
  readonly clusterUid: string | null
  readonly hardware: string
  /** What the journal says belongs to another UID. */
  readonly fresh: boolean
}

/**
 * Asks the store who we are. A node that was in the cluster before goes on under its journaled UID when the store
 * stays away; the heartbeat finds out later if that was wrong. A new one waits.
 */
async function identify(
  base: Base,
  hardware: string,
  waiting: (reason: string) => void,
): Promise<Identified> {
  const { local, log, fail, store } = base
  for (;;) {
    const known = local.node
    const asked = askStore(base, hardware)
    const patience =
      known === null ? asked : Promise.race([asked, systemClock.sleep(STORE_PATIENCE_MS).then(() => null)])
    try {
      const identified = await patience
      if (identified !== null) return identified
      asked.catch(() => undefined)
    } catch (error) {
      if (!isTwillError(error) || !error.retryable) {
        if (isTwillError(error, 'store.foreign-cluster') && known !== null)
          log.error({ error: error.message }, 'the datastore is of another cluster')
        else throw error
      }
      waiting(`the datastore does not tell who this node is: ${messageOf(error)}`)
      log.warn({ error: messageOf(error) }, 'the datastore does not answer')
    }
    if (known !== null) {
      store.expectCluster(known.clusterUid)
      confirmLater(base, hardware, known.uid).catch(fail)
      return { uid: known.uid, clusterUid: known.clusterUid, hardware, fresh: false }
    }
    await systemClock.sleep(RETRY_MS)
  }
}

async function askStore(base: Base, hardware: string): Promise<Identified> {
  const { config, local, store, boot, log } = base
  const clusterUid = await bindCluster(local.node?.clusterUid ?? null, { store, random: systemRandom })
  const identity = await establishIdentity(
    {
      name: config.nodeName,
      hardware,
      incarnation: boot,
      journaledUid: local.node?.uid ?? null,
      heartbeatMs: config.heartbeatInterval,
      allowanceMs: config.offlineAllowance,
    },
    {
      store,
      clock: systemClock,
      random: systemRandom,
      log,
      remember: uid => local.append({ t: 'node', uid, name: config.nodeName, clusterUid }),
    },
  )
  return { uid: identity.uid, clusterUid, hardware, fresh: identity.fresh }
}

/** @throws what ends the daemon: another one has our name, or we are somebody new and must begin anew */
async function confirmLater(base: Base, hardware: string, uid: string): Promise<void> {
  for (;;) {
    try {
      const identified = await askStore(base, hardware)
      if (identified.uid === uid) return
      throw new TwillError(
        'node.name-taken',
        `this node is ${identified.uid} now and was ${uid}: starting anew`,
        { uid },
      )
    } catch (error) {
      if (isTwillError(error, 'node.name-taken')) throw error
      await systemClock.sleep(RETRY_MS)
    }
  }
}

// ---------------------------------------------------------------- the node

async function startNode(
  base: Base,
  metrics: ReturnType<typeof createMetrics>,
  waiting: (reason: string) => void,
): Promise<RunningNode> {
  const { config, log, kernel, boot, local, store, fail } = base
  const observation = await untilObserved(base, waiting)
  const underlayDevice = observation.underlay[0]?.device ?? ''
  const hardware = hardwareOf(await readProductUuid(), await kernel.readLinks(), underlayDevice)
  const identified = await identify(base, hardware, waiting)
  log.info(
    {
      uid: identified.uid,
      cluster: identified.clusterUid,
      fresh: identified.fresh,
      underlay: observation.underlay,
    },
    'this node is known',
  )

  const repairs: Record<string, number> = {}
  const registry = new Registry({ attachments: local.found.attachments }, { journal: local })
  const ipam = createIpam(
    {
      nodeUid: identified.uid,
      nodeName: config.nodeName,
      boot,
      offlineAllowanceMs: config.offlineAllowance,
      coolDownMs: config.coolDown,
      journaled: local.ipamState(),
      journalIntact: local.intact,
      onLost: ({ holders }) => {
        for (const id of holders) attachments.cutOff(id).catch(fail)
      },
    },
    {
      store,
      clock: systemClock,
      random: systemRandom,
      log,
      journal: { append: record => local.append({ t: 'ipam', record }) },
    },
  )
  const cluster: Cluster = new Cluster({ store, log, changed: () => factsChanged() })
  const facts = new NodeFacts(
    { name: config.nodeName, uid: identified.uid, incarnation: boot, vxlan: config.vxlan, observation },
    { cluster, registry, busy: () => attachments.busy(), tunnel: () => tunnel.byFamily() },
  )
  const attachments: Attachments = new Attachments(
    { boot, reapDelayMs: REAP_DELAY_MS },
    {
      kernel,
      ipam,
      registry,
      clock: systemClock,
      random: systemRandom,
      log,
      node: facts,
      elements: endpointElements,
      gate: () => untilRulesStand(loop),
    },
  )
  const loop: Loop = new Loop(
    { ...LOOP, resyncMs: config.resyncInterval },
    {
      kernel,
      facts: () => facts.facts(),
      clock: systemClock,
      random: systemRandom,
      log,
      metrics: {
        repaired(kind) {
          repairs[kind] = (repairs[kind] ?? 0) + 1
          metrics.repair(kind)
        },
        stepFailed: () => undefined,
        passed: () => undefined,
      },
      reattach: id => attachments.reattach(id),
      learnPodMac: (id, mac) => attachments.learnMac(id, mac),
    },
  )
  const tunnel: TunnelAddresses = new TunnelAddresses(
    { journaled: identified.fresh ? null : local.tunnel },
    { ipam, cluster, journal: local, clock: systemClock, log, changed: () => factsChanged() },
  )
  const registration = new Registration({
    store,
    clock: systemClock,
    log,
    wanted: () => (cluster.complete ? facts.record() : null),
    published: () => cluster.nodes().find((node: NodeRecord) => node.name === config.nodeName),
    nameLost: fail,
  })
  const heartbeat = new Heartbeat(
    {
      uid: identified.uid,
      name: config.nodeName,
      hardware,
      heartbeatMs: config.heartbeatInterval,
      allowanceMs: config.offlineAllowance,
      onTaken: fail,
    },
    { store, clock: systemClock, log },
  )

  ipam.restore(identified.fresh ? [] : heldByJournal(local))
  ipam.start()
  const recovered = await attachments.recover()
  if (identified.fresh) for (const { id } of registry.all()) await attachments.cutOff(id)
  log.info({ ...recovered, damaged: !local.intact }, 'attachments of the journal are taken over')
  const spool = new Spool(
    { folder: join(config.stateDir, 'spool'), boot },
    { attachments, clock: systemClock, log },
  )
  await spool.start()
  const verbs = createVerbs({
    attachments,
    registry,
    kernel,
    clock: systemClock,
    servable: () => {
      const room = ipam.room()
      if (!loop.report().rulesStanding)
        return {
          ok: false,
          code: CNI_CODE.pluginNotAvailable,
          reason: 'the first reconcile is not through yet',
        }
      return room.ok ? room : { ok: false, code: CNI_CODE.pluginNotAvailable, reason: room.reason }
    },
  })
  const context = await requestContext()
  const cni = new CniServer(
    { path: join(config.runDir, 'cni.sock') },
    {
      log,
      async serve(request, gone) {
        const begun = process.hrtime.bigint()
        const answer = await dispatch(request, context, { ...verbs, add: each => verbs.add(each, gone) })
        const seconds = Number(process.hrtime.bigint() - begun) / 1e9
        metrics.cniCall(request.environment.get('CNI_COMMAND') ?? '', codeOf(answer), seconds)
        logCall(log, request, answer, seconds)
        return answer
      },
      delivered: answered,
      undelivered: request => undo(request, context, attachments, log),
    },
  )
  await cni.listen()
  const alive = await signOfLife(join(config.runDir, 'alive'), systemClock)
  heartbeat.start()
  loop.start()

  const observe = debounce(200, async () => {
    facts.observed(await observeSelf(config.underlay, { kernel, log }))
    factsChanged()
  })
  const watching = kernel.watch(event => {
    if (
      event.type === 'overflow' ||
      (event.type === 'changed' && (event.domain === 'link' || event.domain === 'address'))
    )
      observe(error => log.warn({ error: messageOf(error) }, 'the underlay could not be observed'))
  })
  function factsChanged(): void {
    loop.markDirty('facts')
    registration.check()
    tunnel.check()
  }

  let foreignFilters: Status['foreignFilters'] = []
  const readForeign = () =>
    kernel.readForeignFilters().then(
      found => {
        foreignFilters = found
      },
      error => log.warn({ error: messageOf(error) }, 'the filters of others could not be read'),
    )
  readForeign()
  const foreignTimer = setInterval(readForeign, config.resyncInterval)

  ensureFirstPoolsLater(base, cluster)
  const status = () =>
    statusOf({
      node: nodeStatus(base, identified.uid),
      clusterUid: identified.clusterUid,
      store: store.status(),
      facts,
      cluster,
      vxlan: config.vxlan,
      attachments: registry.all(),
      ownParts: ipam.ownParts(),
      room: ipam.room(),
      loop: loop.report(),
      repairs,
      foreignFilters,
      conditions: [
        ...ipam
          .conditions()
          .map(({ pool, reason }) => ({ type: 'PoolRefused', message: `${pool}: ${reason}` })),
        ...(local.intact
          ? []
          : [
              {
                type: 'JournalDamaged',
                message: 'lines of the journal were damaged at start; the file is kept beside it',
              },
            ]),
      ],
    })
  const stopAnnouncing = announceWhenReady(base, status)
  return {
    status,
    async stop() {
      stopAnnouncing()
      clearInterval(foreignTimer)
      alive.stop()
      spool.stop()
      await cni.close()
      await watching.close()
      await loop.stop()
      registration.stop()
      tunnel.stop()
      await heartbeat.stop()
      await attachments.settled()
      await ipam.stop()
      await cluster.close()
    },
  }
}

async function untilObserved(base: Base, waiting: (reason: string) => void) {
  const { config, kernel, log } = base
  for (;;) {
    try {
      return await observeSelf(config.underlay, { kernel, log })
    } catch (error) {
      if (!isTwillError(error) || !error.retryable) throw error
      waiting(error.message)
      log.warn({ error: error.message }, 'no underlay yet')
      await systemClock.sleep(RETRY_MS)
    }
  }
}

/** @throws ipam.not-confirmed (retryable) after GATE_PATIENCE_MS */
async function untilRulesStand(loop: Loop): Promise<void> {
  const end = systemClock.boottimeMs() + GATE_PATIENCE_MS
  while (!loop.report().rulesStanding) {
    if (systemClock.boottimeMs() > end)
      throw new TwillError(
        'ipam.not-confirmed',
        'the rules that confine pods do not stand yet',
        {},
        { retryable: true },
      )
    await systemClock.sleep(20)
  }
}

// ---------------------------------------------------------------- addresses

function heldByJournal(local: LocalState): Parameters<NodeIpam['restore']>[0] {
  const pods = [...local.found.attachments.values()].map(
    ({ id, network, containerId, ifName, pod, since, addresses }) => ({
      holder: { id, kind: 'pod' as const, network, containerId, ifName, pod, since },
      addresses,
    }),
  )
  const { tunnel } = local
  const tunnels = (tunnel?.addresses ?? []).map(address => ({
    holder: tunnelHolder(address.family, tunnel?.since ?? 0),
    addresses: [address],
  }))
  return [...pods, ...tunnels]
}

/** From the configuration, only if the store has no pool at all. */
function ensureFirstPoolsLater({ config, store, log }: Base, cluster: Cluster): void {
  const attempt = async (): Promise<void> => {
    await cluster.synced()
    if (cluster.pools().length > 0 || config.firstPools.length === 0) return
    await ensureFirstPools(config.firstPools, { store, random: systemRandom, clock: systemClock })
  }
  const again = (error: unknown): Promise<void> => {
    log.warn({ error: messageOf(error) }, 'the first pools could not be created; trying again')
    return systemClock.sleep(RETRY_MS).then(attempt).catch(again)
  }
  attempt().catch(again)
}

// ---------------------------------------------------------------- calls

async function requestContext(): Promise<RequestContext> {
  const own = await stat('/proc/self/ns/net', { bigint: true })
  return { ownNetns: { dev: own.dev.toString(), ino: own.ino.toString() }, stdinFailure: null }
}

/** An ADD whose answer nobody took is taken back. */
async function undo(
  request: Request,
  context: RequestContext,
  attachments: Attachments,
  log: Log,
): Promise<void> {
  const parsed = parseRequest(request, context)
  if (parsed.command !== 'ADD') return
  log.warn(
    { containerId: parsed.containerId, ifName: parsed.ifName },
    'the client went away before the answer to ADD: undone',
  )
  await attachments.del(parsed)
}

function codeOf(answer: Answer): number {
  if (answer.status === 0) return 0
  return (JSON.parse(answer.stdout) as { code: number }).code
}

function logCall(log: Log, request: Request, answer: Answer, seconds: number): void {
  const { environment } = request
  const data = {
    command: environment.get('CNI_COMMAND'),
    containerId: environment.get('CNI_CONTAINERID'),
    ifName: environment.get('CNI_IFNAME'),
    ms: Math.round(seconds * 1e5) / 100,
  }
  if (answer.status === 0) log.debug(data, 'CNI call')
  else log.warn({ ...data, answer: answer.stdout.trim() }, 'CNI call failed')
}

function answered({ environment }: Request): void {
  const command = environment.get('CNI_COMMAND')
  if (command === 'ADD') faultPoint('add.answered')
  if (command === 'DEL') faultPoint('del.answered')
}

// ---------------------------------------------------------------- signs

function nodeStatus({ config, boot, startedAt }: Base, uid: string): Status['node'] {
  return { name: config.nodeName, uid, incarnation: boot, version: VERSION, startedAt, pid: process.pid }
}

const VERSION = '0.1.0'

function startingStatus(base: Base, reason: string): Status {
  return {
    node: nodeStatus(base, base.local.node?.uid ?? ''),
    ready: false,
    reasons: [reason],
    datastore: { ...base.store.status(), clusterUid: base.local.node?.clusterUid ?? null },
    underlay: [],
    overlay: { device: null, ...base.config.vxlan, tunnel: [], podMtu: 0 },
    nodes: [],
    parts: [],
    pods: [],
    reconcile: { converged: false, failing: [], repairs: {} },
    foreignFilters: [],
    conditions: [],
  }
}

/** The executable's STATUS goes by this file while no daemon answers. */
async function signOfLife(path: string, clock: Clock): Promise<{ stop(): void }> {
  await writeFile(path, '', { mode: 0o600 })
  const touch = () => {
    const now = clock.realtimeMs() / 1000
    utimes(path, now, now).catch(() => undefined)
  }
  const timer = setInterval(touch, ALIVE_EVERY_MS)
  return {
    stop() {
      clearInterval(timer)
      touch()
    },
  }
}

/** Runtimes are told once, when pods can be attached. */
function announceWhenReady({ config, log }: Base, status: () => Status): () => void {
  const timer = setInterval(() => {
    if (!status().ready) return
    clearInterval(timer)
    log.info({}, 'ready')
    const { conflist, network } = config.cni
    if (conflist === null) return
    installConflist(conflist, conflistText(network)).catch(error =>
      log.error({ conflist, error: messageOf(error) }, 'the network configuration could not be written'),
    )
  }, 50)
  return () => clearInterval(timer)
}

/** Calls that come while one is waiting or running make one more. */
function debounce(ms: number, task: () => Promise<void>): (failed: (error: unknown) => void) => void {
  let timer: NodeJS.Timeout | null = null
  return failed => {
    timer ??= setTimeout(() => {
      timer = null
      task().catch(failed)
    }, ms)
  }
}
