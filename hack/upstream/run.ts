/** A rig for a run of Kubernetes' own tests: up, the tests, its logs kept if one failed, down. */
import { rmSync } from 'node:fs'
import { KubernetesCluster, type KubernetesUp } from '../rig/kubernetes/cluster.ts'
import { keepLogs } from './logs.ts'
import type { TestResult } from './report.ts'
import { runSuite, type SuiteOptions } from './suite.ts'

export interface UpstreamRun {
  results: TestResult[]
  /** Of the tests alone. */
  durationMs: number
  /** Where the report and all logs are; undefined if nothing failed. */
  logs: string | undefined
}

export interface UpstreamOptions extends Omit<SuiteOptions, 'folder' | 'timeoutMs'> {
  /** The rig's name. One that is up is used, and left up. */
  name: string
  up: KubernetesUp
  keep?: boolean
  timeoutMs?: number
}

const TIMEOUT_MS = 30 * 60_000

/** @throws Error: the rig does not come up, or the tests do not run at all; the logs are kept then too */
export async function runUpstream({ name, up, keep, ...options }: UpstreamOptions): Promise<UpstreamRun> {
  const cluster = new KubernetesCluster(name)
  const stays = keep === true || cluster.exists
  const folder = `/tmp/twill-e2e-upstream/${name}`
  rmSync(folder, { recursive: true, force: true })
  let failed = true
  try {
    await cluster.up(up)
    const begin = performance.now()
    const results = await runSuite(cluster, { timeoutMs: TIMEOUT_MS, ...options, folder })
    failed = results.length === 0 || results.some(({ state }) => state === 'failed')
    return { results, durationMs: performance.now() - begin, logs: failed ? folder : undefined }
  } finally {
    if (failed) keepLogs(cluster.rig, folder)
    else rmSync(folder, { recursive: true, force: true })
    if (!stays) await cluster.down()
  }
}
