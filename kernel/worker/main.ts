/**
 * Entry of the kernel's threads: builds what its role needs, in the network namespace that the thread is in, and
 * serves jobs one after the other. Loads nothing but kernel/ and lib/, to stay small: every thread has a heap of
 * its own.
 */
import { parentPort, workerData } from 'node:worker_threads'
import { systemClock } from '../../lib/clock.ts'
import { TwillError } from '../../lib/errors.ts'
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
import { PodEndpoints } from '../pod/endpoints.ts'
import { reapPods } from '../pod/reap.ts'
import { readSysctl } from '../sysctl.ts'
import type { Answer, Answered, NodeJobs, PodsJobs, Request, Role } from './jobs.ts'
import { sentError } from './jobs.ts'

type Serve = (requests: readonly Request[]) => void

function podsJobs(libc: Libc): PodsJobs {
  const socket = new NetlinkSocket({ protocol: NETLINK_ROUTE }, { libc })
  const netfilter = new NetlinkSocket({ protocol: NETLINK_NETFILTER }, { libc })
  const table = new NftTable({}, { socket: netfilter, interpreter: openNft() })
  const endpoints = new PodEndpoints(
    {},
    {
      libc,
      socket,
      namespaces: new Namespaces({}, { libc }),
      elements: table,
    },
  )
  return {
    attach: (spec, elements) => endpoints.attach(spec, elements),
    detach: (spec, elements) => endpoints.detach(spec, elements),
    inspect: (netns, podInterface) => endpoints.inspect(netns, podInterface),
    netnsCookie: netns => endpoints.cookie(netns),
    ownNetnsCookie: () => endpoints.ownCookie(),
    replaceRuleset: ruleset => table.replace(ruleset),
    changeElements: change => table.change(change),
    rulesetIntact: () => table.intact(),
    ports: () => [socket.portId, netfilter.portId],
  }
}

function nodeJobs(libc: Libc, monitor: Monitor): NodeJobs {
  const socket = new NetlinkSocket({ protocol: NETLINK_ROUTE }, { libc })
  const netfilter = new NetlinkSocket({ protocol: NETLINK_NETFILTER }, { libc })
  const state = new NetworkState({}, { socket, clock: systemClock })
  const executor = new StepExecutor({}, { socket })
  const acceptChains = new AcceptChains({}, { socket: netfilter })
  return {
    readLinks: () => state.links(),
    readAddresses: () => state.addresses(),
    readRoutes: filter => state.routes(filter),
    readNeighbours: () => state.neighbours(),
    readFdb: device => state.fdb(device),
    readSysctl,
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
  // Who asks for several things in one turn waits for all of them, but for pods, which have nothing in common.
  return requests => {
    if ('attach' in jobs) for (const request of requests) post({ answers: [answerTo(request)] })
    else post({ answers: requests.map(answerTo) })
  }
}

function main(): void {
  const port = parentPort
  if (port === null) throw new TwillError('internal', 'kernel/worker/main runs as a worker thread only')
  const post = (answer: Answer) => port.postMessage(answer)
  const role = (workerData as { role: Role }).role
  const libc = loadLibc()
  const monitor =
    role === 'node' ? new Monitor({}, { libc, clock: systemClock, emit: event => post({ event }) }) : null
  const jobs = monitor === null ? podsJobs(libc) : nodeJobs(libc, monitor)
  port.on('message', serve(jobs, post))
  post({ ready: true, wakeFd: monitor?.wakeFd ?? null })
}

main()
