/**
 * A process that does nothing but follow a cluster, for what that takes of memory: started by kubernetes-watch.ts with
 * the daemon's own flags. Arguments: kubeconfig, page size. Prints one line of JSON.
 */
import { readFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { connectKubernetes } from '../datastore/kubernetes/client.ts'
import { KubernetesFacts } from '../datastore/kubernetes/facts.ts'
import { systemClock } from '../lib/clock.ts'
import { silentLog } from '../lib/log.ts'
import { systemRandom } from '../lib/random.ts'
import type { Followed } from './kubernetes-watch.ts'

/** In which what the lists left behind is collected. */
const SETTLE_MS = 3_000

/** @param field of proc(5) status */
function mib(field: 'VmRSS' | 'VmHWM'): number {
  const kib = new RegExp(`^${field}:\\s+(\\d+)`, 'm').exec(readFileSync('/proc/self/status', 'utf8'))
  return Math.round(Number(kib?.[1]) / 102.4) / 10
}

const [kubeconfig = '', pageSize] = process.argv.slice(2)
const client = await connectKubernetes(
  { kubeconfig },
  { clock: systemClock, log: silentLog, readFile, environment: {} },
)
await client.request('GET', '/version')
const before = mib('VmRSS')
const begin = performance.now()
const used = process.cpuUsage()
const facts = new KubernetesFacts(
  { nodeName: 'n0', pageSize: Number(pageSize) },
  { client, clock: systemClock, random: systemRandom, log: silentLog },
)
await facts.synced()
const syncedMs = Math.round(performance.now() - begin)
const { user, system } = process.cpuUsage(used)
await systemClock.sleep(SETTLE_MS)
const followed: Followed = {
  own: facts.ownPods.entries.size,
  others: facts.otherPods.entries.size,
  syncedMs,
  processorMs: Math.round((user + system) / 1000),
  before,
  after: mib('VmRSS'),
  peak: mib('VmHWM'),
}
console.log(JSON.stringify(followed))
process.exit(0)
