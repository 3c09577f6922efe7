/**
 * Builds what a node is made of, in the order in which each can do its work:
 *
 *   who we are in the store → addresses → attachments recovered, spool drained → CNI socket → loop, registration,
 *   heartbeat → runtimes are told
 *
 * Trap: what is built earlier refers to what is built later (cluster, loop, tunnel) in closures that nobody may call before.
 */
import { join } from 'node:path'
import type { NodeRecord } from '../datastore/records/node.ts'
import { underlaysOf, type Vital } from '../ipam/covered.ts'
import { Heartbeat } from '../ipam/heartbeat.ts'
import { createIpam } from '../ipam/node-ipam.ts'
import { pluginVersions } from '../kernel/cni-plugin.ts'
import { systemClock } from '../lib/clock.ts'
import { systemRandom } from '../lib/random.ts'
import { endpointElements } from '../routing/vxlan/elements.ts'
import type { Status } from './api/types.ts'
import { Attachments } from './attach/attachments.ts'
import { notReady } from './attach/cni-errors.ts'
import { createFront } from './attach/front.ts'
import { Leases } from './attach/leases.ts'
import { endWithoutName } from './attach/name-lost.ts'
import { Registry } from './attach/registry.ts'
import { servableBy, troubleOf } from './attach/servable.ts'
import { Spool } from './attach/spool.ts'
import { adoptSurvivors, heldByJournal } from './attach/survivors.ts'
import { createVerbs } from './attach/verbs.ts'
import type { Auditor } from './audit/auditor.ts'
import { auditConditions, createAuditor } from './audit/create.ts'
import type { Base } from './base.ts'
import { Announcement } from './cni/announcement.ts'
import { ChainSurvey } from './cni/chain.ts'
import { builtExecutables, ExecutableFiles } from './cni/executables.ts'
import { ForeignFilters } from './foreign-filters.ts'
import { Membership } from './kubernetes/membership.ts'
import { ResourceStatus } from './kubernetes/resource-status.ts'
import { LOOP, Loop } from './loop.ts'
import type { createMetrics } from './metrics.ts'
import { hardwareOf, readProductUuid } from './node/boot.ts'
import { Cluster } from './node/cluster.ts'
import { NodeFacts } from './node/facts.ts'
import { ensureFirstPoolsLater } from './node/first-pools.ts'
import { identify, STORE_PATIENCE_MS } from './node/identify.ts'
import { Registration } from './node/registration.ts'
import { recallWhenAway, SNAPSHOT_FILE, SnapshotFile } from './node/snapshot-file.ts'
import { TunnelAddresses } from './node/tunnel.ts'
import { vitalsOf } from './node/vital.ts'
import { untilObserved, watchSelf } from './node/watch-self.ts'
import { graceOf, signOfLife } from './signs.ts'
import {
  nodeStatus,
  reasonsAgainstServing,
  recalledCondition,
  restoredCondition,
  statusOf,
} from './status.ts'

/** An ADD waits this long for the table before it answers "try again later". */
const GATE_PATIENCE_MS = 5_000
const REAP_DELAY_MS = 25
const RESOURCE_STATUS_MS = 3_000

export interface RunningNode {
  status(): Status
  readonly audit: Auditor
  stop(): Promise<void>
}

/** Ends when runtimes may call; the first reconcile comes after. */
export async function composeNode(
  base: Base,
  metrics: ReturnType<typeof createMetrics>,
  waiting: (reason: string) => void,
): Promise<RunningNode> {
  const { config, log, kernel, boot, local, store, fail } = base
  const observation = await untilObserved(base, systemClock, waiting)
  const underlayDevice = observation.underlay[0]?.device ?? ''
  const membership = Membership.of(config.nodeName, base.kubernetes, {
    clock: systemClock,
    random: systemRandom,
    log,
    store,
    nodes: () => cluster.nodes(),
    announced: () => announcement.missing === null,
    trouble: () => trouble(),
    changed: () => {
      registration.check()
      ipam.recheckPools()
    },
  })
  await membership?.untilThere(waiting)
  const hardware = hardwareOf(await readProductUuid(), await kernel.readLinks(), underlayDevice)
  const identified = await identify(base, hardware, waiting).catch(error =>
    endWithoutName(
      error,
      { ...local.found, journaledUid: local.node?.uid ?? null, hardware, boot },
      { kernel, store, journal: local, log, elements: endpointElements },
    ),
  )
  log.info(
    {
      uid: identified.uid,
      cluster: identified.clusterUid,
      fresh: identified.fresh,
      underlay: observation.underlay,
    },
    'this node is known',
  )

  const vitals = vitalsOf(
    { datastore: config.datastore, apiServer: base.kubernetes?.client.status().server ?? null },
    () => facts.observation,
  )
  const repairs: Record<string, number> = {}
  const registry = new Registry({ attachments: local.found.attachments }, { journal: local })
  const ipam = createIpam(
    {
      nodeUid: identified.uid,
      nodeName: config.nodeName,
      nodeLabels: config.nodeLabels,
      podCidrs: () => membership?.podCidrs() ?? 'none',
      vitals,
      boot,
      offlineAllowanceMs: config.offlineAllowance,
      marginMs: config.fenceMargin,
      coolDownMs: config.coolDown,
      nodeLimit: config.nodeLimit,
      journaled: local.ipamState(),
      journalIntact: local.intact,
      onPools: () => tunnel.check(),
      onLost: lost => {
        for (const id of lost.holders)
          if (!tunnel.lose(id, lost) && !leases.lose(id, lost)) attachments.cutOff(id, lost).catch(fail)
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
  let remember = () => {}
  const remembered = new Promise<void>(resolve => {
    remember = resolve
  })
  const cluster: Cluster = new Cluster({
    store,
    log,
    watched: ipam.watched,
    changed: () => {
      snapshot.changed()
      factsChanged()
    },
    vitals,
    remembered,
  })
  const snapshot = new SnapshotFile(
    {
      path: join(config.stateDir, SNAPSHOT_FILE),
      owner: { clusterUid: identified.clusterUid, nodeUid: identified.uid, boot },
    },
    { clock: systemClock, log, known: () => cluster.told },
  )
  const published = () => cluster.nodes().find((node: NodeRecord) => node.name === config.nodeName)
  const facts = new NodeFacts(
    {
      name: config.nodeName,
      uid: identified.uid,
      labels: config.nodeLabels,
      kubernetes: membership !== null,
      incarnation: boot,
      vxlan: config.vxlan,
      observation,
    },
    {
      ...{ cluster, registry, busy: () => attachments.busy(), vitals, tunnel: () => tunnel },
      // Until the API server has said so: what we said last, or each start would write the record twice.
      kubernetesCluster: () =>
        membership === null ? null : (membership.clusterUid() ?? published()?.kubernetesCluster ?? null),
    },
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
      over: () => loop.lookSoon('facts'),
    },
  )
  const leases: Leases = new Leases(
    { boot, leases: local.found.leases },
    { kernel, ipam, journal: local, clock: systemClock, log },
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
    {
      ipam,
      cluster,
      journal: local,
      clock: systemClock,
      log,
      changed: () => factsChanged(),
      holdsPods: family =>
        registry.all().some(({ addresses }) => addresses.some(each => each.family === family)),
    },
  )
  const registration = new Registration({
    store,
    clock: systemClock,
    log,
    wanted: () => (cluster.complete && membership?.node.isDeleted !== true ? facts.record() : null),
    nodes: () => cluster.nodes(),
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
      onBehind: reason => ipam.suspectRestore(reason),
      ...(membership === null ? {} : { isRecreated: () => membership.node.standsNow() }),
    },
    { store, clock: systemClock, log },
  )

  ipam.restore(identified.fresh ? [] : heldByJournal(local))
  ipam.start()
  const forgetful = !local.intact || local.found.node === null
  if (forgetful && !identified.fresh) {
    waiting('the journal lost records: waiting for the ledgers to say who lives here')
    await adoptSurvivors(base, { ipam, registry, tunnel, leases })
  }
  remember()
  const recovered = { ...(await attachments.recover()), leases: await leases.recover() }
  if (identified.fresh) {
    for (const { id } of registry.all()) await attachments.cutOff(id, null)
    for (const { id } of leases.all()) leases.lose(id, null)
  }
  log.info({ ...recovered, damaged: !local.intact }, 'attachments of the journal are taken over')
  const spool = new Spool(
    { folder: join(config.stateDir, 'spool'), boot },
    { attachments, registry, leases, clock: systemClock, log },
  )
  await spool.start()
  const trouble = () => troubleOf(loop.report(), systemClock.boottimeMs())
  const aliveFile = join(config.runDir, 'alive')
  const servable = servableBy({
    room: () => ipam.room(),
    report: () => loop.report(),
    clock: systemClock,
    graceUntilMs: await graceOf(aliveFile, systemClock),
  })
  const verbs = createVerbs({
    attachments,
    registry,
    leases,
    ...(base.kubernetes === null ? {} : { awaitPod: base.kubernetes.awaitPod }),
    ipam,
    kernel,
    clock: systemClock,
    log,
    servable,
  })
  const cni = await createFront({ path: join(config.runDir, 'cni.sock') }, { verbs, metrics, log })
  await cni.listen()
  const alive = await signOfLife(aliveFile, systemClock)
  let confirmed = identified.byStore
  identified.confirmed.then(() => {
    confirmed = true
    heartbeat.start()
  }, fail)
  loop.start()
  recallWhenAway(identified.byStore ? STORE_PATIENCE_MS : 0, { cluster, snapshot, clock: systemClock, log })

  const watching = watchSelf(base, {
    ...{ clock: systemClock, facts },
    changed() {
      ipam.recheckPools()
      factsChanged()
    },
  })
  function factsChanged(): void {
    loop.markDirty('facts')
    registration.check()
    tunnel.check()
  }

  const foreignFilters = new ForeignFilters(
    { everyMs: config.resyncInterval },
    { kernel, clock: systemClock, log },
  )
  foreignFilters.start()

  let firstPoolsRefused: string | null = null
  void ensureFirstPoolsLater(config.firstPools, {
    store,
    cluster,
    vitals,
    refused: why => {
      firstPoolsRefused = why
    },
    clock: systemClock,
    random: systemRandom,
    log,
  })
  const status = () =>
    statusOf({
      unannounced: announcement.missing,
      node: nodeStatus(base, identified.uid),
      clusterUid: identified.clusterUid,
      store: store.status(),
      confirmed,
      kubernetes: base.kubernetes?.status() ?? null,
      facts,
      cluster,
      vxlan: config.vxlan,
      attachments: registry.all(),
      leases: leases.all(),
      ownParts: ipam.ownParts(),
      room: ipam.room(),
      loop: loop.report(),
      trouble: trouble(),
      repairs,
      foreignFilters: foreignFilters.found,
      conditions: [
        ...auditConditions(audit.last()?.report),
        ...announcement.conditions(),
        ...(membership?.conditions() ?? []),
        ...ipam.conditions().map(({ pool, reason }) => ({
          type: 'PoolRefused',
          message: reason.startsWith(`IPPool ${pool} `) ? reason : `${pool}: ${reason}`,
        })),
        ...(firstPoolsRefused === null
          ? []
          : [{ type: 'PoolRefused', message: `firstPools: ${firstPoolsRefused}` }]),
        ...ipam.resourceProblems(),
        ...leases.problems(),
        ...recalledCondition(cluster.recalled),
        ...restoredCondition(ipam.restored()),
        ...ipam.unreadable().map(message => ({ type: 'DamagedRecord', message })),
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
  const audit = createAuditor(base, identified.uid, { attachments, registry, leases, ipam, cluster, metrics })
  ipam.ready().then(() => audit.start())
  const resourceStatus = tellResources(base, cluster, () => [...underlaysOf(cluster.nodes()), ...vitals()])
  const serves = () =>
    reasonsAgainstServing({
      loop: loop.report(),
      trouble: trouble(),
      room: ipam.room(),
      cluster,
      store: store.status(),
    }).length === 0
  const announcement: Announcement = new Announcement(
    { ...config.cni, everyMs: config.resyncInterval },
    {
      clock: systemClock,
      log,
      survey: new ChainSurvey({ versionsOf: pluginVersions }),
      executables:
        config.cni.binDir === null
          ? null
          : new ExecutableFiles({ source: builtExecutables(), folder: config.cni.binDir }),
      serves,
      announced: () => {
        log.info({}, 'ready')
        membership?.node.check()
      },
    },
  )
  announcement.start()
  membership?.start()
  return {
    status,
    audit,
    async stop() {
      await audit.stop()
      await resourceStatus?.stop()
      await announcement.stop()
      await membership?.stop()
      await foreignFilters.stop()
      alive.stop()
      spool.stop()
      await cni.close()
      await watching.close()
      await loop.stop()
      registration.stop()
      tunnel.stop()
      await heartbeat.stop()
      await attachments.settled()
      await leases.settled()
      await ipam.stop()
      await snapshot.stop()
      await cluster.close()
    },
  }
}

/** @throws ipam.not-confirmed (retryable) after GATE_PATIENCE_MS */
async function untilRulesStand(loop: Loop): Promise<void> {
  const end = systemClock.boottimeMs() + GATE_PATIENCE_MS
  while (!loop.report().rulesStanding) {
    if (systemClock.boottimeMs() > end) throw notReady('the rules that confine pods do not stand yet')
    await systemClock.sleep(20)
  }
}

/** What this node makes of the custom resources of its cluster; null: it is none of Kubernetes. */
function tellResources(
  { kubernetes, store, log }: Base,
  cluster: Cluster,
  vitals: () => readonly Vital[],
): ResourceStatus | null {
  if (kubernetes === null) return null
  const modules = { client: kubernetes.client, store, clock: systemClock, random: systemRandom, log }
  const status = new ResourceStatus(
    { everyMs: RESOURCE_STATUS_MS },
    { ...modules, vitals, nodes: () => cluster.nodes() },
  )
  cluster.synced().then(() => status.start())
  return status
}
