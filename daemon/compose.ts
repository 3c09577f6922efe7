/**
 * Builds the daemon from its modules, in the order in which each can do its work:
 *
 *   lock → kernel → journal → API server → store → API socket → the node itself (compose-node.ts)
 *
 * The API socket answers from early on, so that an operator sees what a start waits for. Until the CNI socket is
 * open the executable works by itself (twill-offline).
 */
import * as files from 'node:fs/promises'
import { join } from 'node:path'
import { StoreService } from '../datastore/embedded/service.ts'
import { openDatastore } from '../datastore/open.ts'
import { createKernel } from '../kernel/real.ts'
import { systemClock } from '../lib/clock.ts'
import type { Log } from '../lib/log.ts'
import { systemRandom } from '../lib/random.ts'
import { ApiServer } from './api/server.ts'
import { notReady } from './attach/cni-errors.ts'
import type { Base } from './base.ts'
import { composeNode, type RunningNode } from './compose-node.ts'
import type { Config } from './config.ts'
import { connectIfEnabled } from './kubernetes/connection.ts'
import { watchKubernetes } from './kubernetes/watching.ts'
import { LocalState, lockNode } from './local-state.ts'
import { createMetrics } from './metrics.ts'
import { readBoot } from './node/boot.ts'
import { startingStatus } from './status.ts'
import { workerUrl } from './worker-url.ts'

const FORBIDDEN = 403

export interface DaemonModules {
  readonly log: Log
  /** Ends the process: the daemon must not go on. */
  readonly fail: (error: unknown) => void
}

export interface Daemon {
  /** Leaves the kernel as it is. */
  stop(): Promise<void>
}

export async function startDaemon(config: Config, modules: DaemonModules): Promise<Daemon> {
  const { log, fail } = modules
  const lock = await lockNode(config.runDir, config.stateDir)
  const kernel = await createKernel({ workerUrl: workerUrl(), host: config.host }, { log, onDead: fail })
  const boot = await readBoot(await kernel.ownNetnsCookie())
  const local = await LocalState.open(
    { stateDir: config.stateDir, boot, coolDownMs: config.coolDown },
    { clock: systemClock, log },
  )
  let node: RunningNode | null = null
  let waitingFor = 'starting'
  const status = () => node?.status() ?? startingStatus(base, waitingFor)
  const metrics = createMetrics({ status, audit: () => node?.audit.last() ?? null })
  const system = { clock: systemClock, random: systemRandom, log }
  const client = await connectIfEnabled(config.kubernetes, {
    ...system,
    onAnswer: (verb, code) => {
      metrics.kubernetesRequest(verb, code)
      if (code === FORBIDDEN) kubernetes?.refused()
    },
  })
  const kubernetes = client === null ? null : watchKubernetes(config, { ...system, client })
  const datastore = await openDatastore(config.datastore, config, {
    ...system,
    files,
    readFile: path => files.readFile(path),
    kubernetes,
  })
  const { store, database } = datastore
  const base: Base = {
    config,
    log,
    fail,
    kernel,
    boot,
    local,
    store,
    kubernetes,
    startedAt: new Date(systemClock.realtimeMs()).toISOString(),
  }
  const auditor = async () => {
    if (node === null) throw notReady(waitingFor)
    return node.audit
  }
  const api = new ApiServer(
    {
      socketPath: join(config.runDir, 'api.sock'),
      metricsAddress: config.metricsAddress,
      healthAddress: config.healthAddress,
    },
    {
      status,
      metrics: metrics.text,
      store: database === null ? null : new StoreService({ database, clock: systemClock }),
      audit: {
        check: async () => (await auditor()).check(),
        repair: async dryRun => (await auditor()).repair(dryRun),
      },
    },
  )
  await api.listen()
  const started = composeNode(base, metrics, reason => {
    waitingFor = reason
  }).then(running => {
    node = running
  }, fail)
  return {
    async stop() {
      await api.close()
      await Promise.race([started, systemClock.sleep(0)])
      await node?.stop()
      await kubernetes?.stop()
      await datastore.close()
      client?.close()
      await local.close()
      await kernel.close()
      lock.release()
    },
  }
}
