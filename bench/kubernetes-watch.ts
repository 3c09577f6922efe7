/**
 * `npm run bench kubernetes-watch`: what following a Kubernetes cluster takes: time until everything is known, resident
 * memory before, after and at its peak, for several sizes of a page. Against a real API server with synthetic pods, on
 * loopback. `-- --pods N` (default 5,000).
 */
import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import { LAUNCH } from '../hack/launch.ts'
import { ROOT } from '../hack/rig/layout.ts'
import { startApiServer, type TestApiServer } from '../test/fixtures/kubernetes/api-server.ts'
import { putPods } from '../test/fixtures/kubernetes/synthetic-pods.ts'

/** 250 is the daemon's; the last is no pages at all. */
const PAGE_SIZES = [100, 250, 500, 1_000_000]
const NODES = 100
/** Bundled as the daemon is (hack/bench): what tsx takes itself is not to be measured. */
const FOLLOWER = join(ROOT, 'node_modules/.cache/bench/kubernetes-watching.mjs')

/** What kubernetes-watching.ts prints. */
export interface Followed {
  readonly own: number
  readonly others: number
  readonly syncedMs: number
  readonly processorMs: number
  /** MiB resident. */
  readonly before: number
  readonly after: number
  readonly peak: number
}

function follow(api: TestApiServer, pageSize: number): Followed {
  const { nodeFlags, environment } = LAUNCH.twilld
  return JSON.parse(
    execFileSync(process.execPath, [...nodeFlags, FOLLOWER, api.kubeconfig, String(pageSize)], {
      encoding: 'utf8',
      env: { ...process.env, ...environment },
    }),
  ) as Followed
}

const line = (cells: readonly unknown[]) => console.log(`| ${cells.join(' | ')} |`)

const at = process.argv.indexOf('--pods')
const count = at < 0 ? 5_000 : Number(process.argv[at + 1])
if (!Number.isInteger(count) || count < 1) throw new Error('--pods: expected a number')

const api = await startApiServer()
try {
  await putPods(api.etcd, { count, nodes: NODES })
  line(['page', 'own pods', 'others', 'all known after ms', 'processor ms', 'MiB before', 'after', 'peak'])
  line(Array.from({ length: 8 }, () => '---'))
  for (const pageSize of PAGE_SIZES) {
    const { own, others, syncedMs, processorMs, before, after, peak } = follow(api, pageSize)
    line([pageSize, own, others, syncedMs, processorMs, before, after, peak])
  }
} finally {
  await api.stop()
}
