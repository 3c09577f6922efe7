/**
 * Entry of the kernel's threads: builds what its role needs, in the network namespace that the thread is in, and
 * serves jobs one after the other. Loads nothing but kernel/ and lib/, to stay small: every thread has a heap of
 * its own.
 */
import { type MessagePort, parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads'
import { systemClock } from '../../lib/clock.ts'
import { TwillError } from '../../lib/errors.ts'
import type { HostPaths } from '../host-paths.ts'
import { AcceptChains } from '../iptables/accept-chains.ts'
import { glanceAtLegacy } from '../iptables/legacy-glance.ts'
import type { StepOutcome } from '../kernel.ts'
import { Monitor } from '../monitor/monitor.ts'
import { StepExecutor } from '../netlink/apply.ts'
import { NETLINK_NETFILTER, NETLINK_ROUTE } from '../netlink/constants.ts'
import { type Libc, loadLibc } from '../netlink/libc.ts'
import { NetlinkSocket } from '../netlink/socket.ts'
import { NetworkState } from '../netlink/state.ts'
import { Namespaces } from '../netns/namespaces.ts'
import { openNft } from '../nft/interpreter.ts'
import { NftTable } from '../nft/table.ts'
import { type AttachJob, type DetachJob, PodEndpoints } from '../pod/endpoints.ts'
import { reapPods } from '../pod/reap.ts'
import { Sysctls } from '../sysctl.ts'
import type { Answer, Answered, NodeJobs, PodsJobs, Request, ThreadData } from './jobs.ts'
import { isShort, sentError } from './jobs.ts'

type Serve = (requests: readonly Request[]) => void

interface Pods {
  readonly endpoints: PodEndpoints
  readonly jobs: Omit<PodsJobs, 'attach' | 'detach'>
}

/** The first of many is answered only when the last one's link is down: so not too many. */
const PODS_TOGETHER = 8

function openPods(libc: Libc, host: HostPaths): Pods {
  const socket = new NetlinkSocket({ protocol: NETLINK_ROUTE }, { libc })
  const netfilter = new NetlinkSocket({ protocol: NETLINK_NETFILTER }, { libc })
  const table = new NftTable({}, { socket: netfilter, interpreter: openNft() })
  const endpoints = new PodEndpoints(
    {},
    {
      libc,
      socket,
      namespaces: new Namespaces(host, { libc }),
      elements: table,
      sysctls: new Sysctls({ root: host.sysctls }),
    },
  )
  const jobs: Pods['jobs'] = {
    inspect: (netns, podInterface) => endpoints.inspect(netns, podInterface),
    netnsCookie: netns => endpoints.cookie(netns),
    ownNetnsCookie: () => endpoints.ownCookie(),
    replaceRuleset: ruleset => table.replace(ruleset),
    changeElements: change => table.change(change),
    rulesetIntact: () => table.intact(),
    removeRuleset: () => table.remove(),
    ports: () => [socket.portId, netfilter.portId],
  }
  return { endpoints, jobs }
}

function nodeJobs(libc: Libc, monitor: Monitor, host: HostPaths): NodeJobs {
  const sysctls = new Sysctls({ root: host.sysctls })
  const socket = new NetlinkSocket({ protocol: NETLINK_ROUTE }, { libc })
  const netfilter = new NetlinkSocket({ protocol: NETLINK_NETFILTER }, { libc })
  const state = new NetworkState({}, { socket, clock: systemClock })
  const executor = new StepExecutor({}, { socket, sysctls })
  const acceptChains = new AcceptChains({}, { socket: netfilter })
  return {
    readLinks: () => state.links(),
    readAddresses: () => state.addresses(),
    readRoutes: filter => state.routes(filter),
    readNeighbours: () => state.neighbours(),
    readFdb: device => state.fdb(device),
    readSysctl: path => sysctls.read(path),
    lookupRoute: destination => state.lookup(destination),
    apply: steps => executor.apply(steps).map(withSentError),
    ensureAcceptChains: chains => acceptChains.ensure(chains),
    readForeignFilters: () => acceptChains.foreignFilters(),
    glanceAtLegacyFilters: () => glanceAtLegacy(libc),
    reapLinks: addresses => reapPods({ route: socket, netfilter }, addresses),
    askPodMacs: () => monitor.askPodMacs(),
    watch: ports => {
      monitor.start([...ports, socket.portId, netfilter.portId])
      waitForEver(monitor)
    },
  }
}

/** An error as data; kernel/real.ts makes it an error again. */
function withSentError(outcome: StepOutcome): StepOutcome {
  if (outcome.error === null) return outcome
  return { step: outcome.step, error: sentError(outcome.error) as unknown as Error }
}

/** Between two waits the thread's event loop turns, and serves jobs. */
function waitForEver(monitor: Monitor): void {
  setImmediate(() => {
    monitor.wait()
    waitForEver(monitor)
  })
}

function serve(jobs: object, post: (answer: Answer) => void): Serve {
  const answerTo = ({ id, job, args }: Request): Answered => {
    try {
      const run = (jobs as Record<string, (...args: readonly unknown[]) => unknown>)[job]
      if (run === undefined) throw new TwillError('internal', `no kernel job ${job}`)
      return { id, value: run(...args) }
    } catch (error) {
      return { id, error: sentError(error) }
    }
  }
  // Who asks for several things in one turn waits for all of them.
  return requests => post({ answers: requests.map(answerTo) })
}

/** What waits for the thread is taken along: pods that come or go in one burst share a change of the rules. */
function servePods(pods: Pods, port: MessagePort, post: (answer: Answer) => void): Serve {
  const serveOne = serve(pods.jobs, post)
  return arrived => {
    const waiting = [...arrived]
    for (let more = receiveMessageOnPort(port); more !== undefined; more = receiveMessageOnPort(port))
      waiting.push(...(more.message as readonly Request[]))
    while (waiting.length > 0) {
      const { job } = waiting[0] as Request
      const others = waiting.findIndex(request => request.job !== job)
      const alike = others < 0 ? waiting.length : others
      const batch = waiting.splice(0, isForMany(job) || isShort(job) ? Math.min(alike, PODS_TOGETHER) : 1)
      if (isForMany(job)) serveTogether(pods.endpoints, job, batch, post)
      else serveOne(batch)
    }
  }
}

const isForMany = (job: string): job is 'attach' | 'detach' => job === 'attach' || job === 'detach'

/** Each is answered when it is done: its caller's process ends while the next one's pod is made. */
function serveTogether(
  endpoints: PodEndpoints,
  job: 'attach' | 'detach',
  batch: readonly Request[],
  post: (answer: Answer) => void,
): void {
  const answer = (index: number, outcome: unknown) => {
    const { id } = batch[index] as Request
    const answered = outcome instanceof Error ? { id, error: sentError(outcome) } : { id, value: outcome }
    post({ answers: [answered] })
  }
  const jobs = batch.map(({ args: [spec, elements] }) => ({ spec, elements }))
  if (job === 'attach') endpoints.attach(jobs as AttachJob[], answer)
  else endpoints.detach(jobs as DetachJob[], answer)
}

function main(): void {
  const port = parentPort
  if (port === null) throw new TwillError('internal', 'kernel/worker/main runs as a worker thread only')
  const post = (answer: Answer) => port.postMessage(answer)
  const { role, host } = workerData as ThreadData
  const libc = loadLibc()
  const monitor =
    role === 'node' ? new Monitor({}, { libc, clock: systemClock, emit: event => post({ event }) }) : null
  const served =
    monitor === null
      ? servePods(openPods(libc, host), port, post)
      : serve(nodeJobs(libc, monitor, host), post)
  port.on('message', served)
  post({ ready: true, wakeFd: monitor?.wakeFd ?? null })
}

main()
