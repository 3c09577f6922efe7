/**
 * Kubernetes' own end-to-end suite against a rig: ginkgo runs its tests in parallel from the underlay's network, where
 * the API server and the nodes are reached. `down` ends it with the rest of the rig.
 */
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { goTool } from '../go/tools.ts'
import type { KubernetesCluster } from '../rig/kubernetes/cluster.ts'
import { run } from '../rig/processes.ts'
import { readReport, type TestResult } from './report.ts'

/** What every implementation of the network must pass. */
export const CONFORMANCE = '\\[sig-network\\].*\\[Conformance\\]'

/** In Kubernetes 1.36, without those that disturb. */
export const CONFORMANCE_TESTS = 47

/** Tests that want the cluster for themselves. */
const DISTURBING = 'Serial|Disruptive'

/** Most of a test is waiting for pods. */
const PROCESSES = 6

/** In which ginkgo takes away what tests left, after its time is over. */
const GRACE_MS = 60_000

export interface SuiteOptions {
  /** Regular expressions over whole names, as ginkgo reads them. */
  focus: string
  skip?: string | undefined
  processes?: number | undefined
  /** Where the report and ginkgo's own words go. */
  folder: string
  timeoutMs: number
}

/** @throws Error with ginkgo's last words, if it ends without a report */
export async function runSuite(cluster: KubernetesCluster, options: SuiteOptions): Promise<TestResult[]> {
  const bin = await goTool('kubernetes', ['ginkgo', 'e2e.test', 'kubectl'])
  // Its tests leave kubeconfigs behind them.
  const temporary = join(options.folder, 'tmp')
  mkdirSync(temporary, { recursive: true })
  const report = join(options.folder, 'report.json')
  const log = join(options.folder, 'ginkgo.log')
  const { underlay } = cluster.rig
  const ginkgo = [join(bin, 'ginkgo'), ...ginkgoFlags(options, report), join(bin, 'e2e.test')]
  const suite = ['--', ...suiteFlags(cluster, join(bin, 'kubectl'))]
  const { status } = await run(
    'nsenter',
    ['-t', String(underlay.pid), '-n', '--', 'sh', '-c', 'exec "$@" >"$0" 2>&1', log, ...ginkgo, ...suite],
    { env: { ...underlay.environment, TMPDIR: temporary }, timeoutMs: options.timeoutMs + GRACE_MS },
  )
  rmSync(temporary, { recursive: true, force: true })
  if (existsSync(report)) return readReport(readFileSync(report, 'utf8'))
  const said = readFileSync(log, 'utf8').split('\n').slice(-30).join('\n')
  throw new Error(`the suite ended without a report (exit ${status}):\n${said}`)
}

function ginkgoFlags({ focus, skip, processes, timeoutMs }: SuiteOptions, report: string): string[] {
  return [
    `--procs=${processes ?? PROCESSES}`,
    `--focus=${focus}`,
    `--skip=${skip ?? DISTURBING}`,
    `--timeout=${Math.ceil(timeoutMs / 1000)}s`,
    `--json-report=${report}`,
    '--no-color',
    '--silence-skips',
  ]
}

function suiteFlags(cluster: KubernetesCluster, kubectl: string): string[] {
  return [
    `--kubeconfig=${cluster.kubeconfig}`,
    `--kubectl-path=${kubectl}`,
    `--num-nodes=${cluster.nodes.length}`,
    '--provider=skeleton',
    // There is nobody to ssh to.
    '--disable-log-dump',
  ]
}
