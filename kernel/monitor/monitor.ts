/**
 * Notifications of the kernel, condensed: which domain changed, and MACs that changed inside pods.
 *
 * Two rtnetlink sockets: one for this namespace, one for links in every namespace that this one has a number
 * for (NETLINK_LISTEN_ALL_NSID), which tells of pods without entering them. A third for nftables.
 *
 * The monitor waits in poll(2), on a thread that it shares with jobs: `wait` returns when there is something, when
 * `wakeFd` is written, or after a quarter of a second, since a thread in poll cannot be ended. (koffi's own poll
 * handles crash when a worker thread collects garbage.)
 *
 * Invariants: after an overflow (ENOBUFS) everything may have changed, and the listener is told so. A MAC is told
 * only of what the node's own link says is its other end: root in a pod makes veths of any index, and as many
 * changes as it likes, which is why pods' messages are gathered, and taken so many at a time.
 * Trap: tracked neighbours change state all the time; only permanent entries and disappearances count.
 */
import { readSync } from 'node:fs'
import type { Clock } from '../../lib/clock.ts'
import type { KernelEvent } from '../kernel.ts'
import { forEachAttribute, readString } from '../netlink/attributes.ts'
import * as c from '../netlink/constants.ts'
import { Datagram } from '../netlink/datagram.ts'
import { errnoName, kernelFailed, type Libc } from '../netlink/libc.ts'
import { type LinkRecord, readLink, writeDumpLinks, writeGetLink, writeGetPeer } from '../netlink/links.ts'
import { forEachMessage, type NetlinkMessage, NetlinkSocket } from '../netlink/socket.ts'
import { NFT_TABLE, POD_LINK_PREFIX } from '../ownership.ts'
import { MessageReceiver } from './receiver.ts'

export interface MonitorOptions {
  /** Changes of a domain within this time are reported once. */
  readonly condenseMs?: number
  /** Of each socket; what does not fit while the thread is at other work is an overflow. */
  readonly receiveBufferBytes?: number
}

export interface MonitorModules {
  readonly libc: Libc
  readonly clock: Clock
  readonly emit: (event: KernelEvent) => void
}

interface Source {
  readonly socket: NetlinkSocket
  readonly visit: (message: NetlinkMessage, netnsId: number | null) => void
  /** Messages were lost. */
  readonly overflowed: () => void
}

/** What a veth in another namespace says of itself: not to be believed. */
interface PeerClaim {
  readonly hostIndex: number
  readonly podIndex: number
  readonly netnsId: number
  readonly mac: string
}

/** In order of strangeness. What the kernel does by itself comes from port 0: also what follows from our own calls. */
const AUTHORS = ['us', 'kernel', 'others'] as const
type Author = (typeof AUTHORS)[number]

type Domain = Extract<KernelEvent, { type: 'changed' }>['domain']

interface Changed {
  /** The strangest of those who changed it. */
  readonly author: Author
  /** Host ends of pods and what stands on them, and nothing else. */
  readonly pods: boolean
}

const POLLIN = 1
const EFD_NONBLOCK_CLOEXEC = 0o2004000
const LONGEST_WAIT_MS = 250
const RECEIVE_BUFFER_BYTES = 8 << 20
/** Datagrams taken from one socket before the thread turns to its jobs: a pod can send them as fast as we read. */
const DRAIN_LIMIT = 500
/** Tables that iptables on nftables keeps: a change there may take our jumps away. */
const FILTER_TABLE = 'filter'
const NFPROTO_INET = 1
const NFT_MSG_NEWCHAIN = 3
const NFT_MSG_DELCHAIN = 5
const NFT_MSG_NEWGEN = 15
/** NFTA_…_TABLE is attribute 1 of every nftables message that belongs to a table. */
const NFTA_TABLE = 1

export class Monitor {
  readonly #libc: Libc
  readonly #clock: Clock
  readonly #emit: (event: KernelEvent) => void
  readonly #condenseMs: number
  readonly #receiveBufferBytes: number
  readonly #receiver: MessageReceiver
  readonly #changed = new Map<Domain, Changed>()
  /** Indices of host ends; one that was there before the start is in it once its link has been told of. */
  readonly #hostEnds = new Set<number>()
  /** Index of the host end → MAC last heard of its pod end. */
  readonly #podMacs = new Map<number, string>()
  /** By namespace and index, until the next report. */
  readonly #claims = new Map<string, PeerClaim>()
  #podsMissed = false
  #requests: NetlinkSocket | null = null
  readonly #request = new Datagram(4096)
  #ownPorts: ReadonlySet<number> = new Set()
  /** An eventfd: whoever writes eight octets to it ends a `wait`. */
  readonly wakeFd: number
  readonly #sources: Source[] = []
  readonly #woken = Buffer.alloc(8)
  readonly #pollFds = Buffer.alloc(8 * 4)
  /** Boot time at which to report; null: nothing changed. */
  #dueMs: number | null = null

  constructor(options: MonitorOptions, modules: MonitorModules) {
    this.#libc = modules.libc
    this.#clock = modules.clock
    this.#emit = modules.emit
    this.#receiveBufferBytes = options.receiveBufferBytes ?? RECEIVE_BUFFER_BYTES
    this.#condenseMs = options.condenseMs ?? 20
    this.wakeFd = modules.libc.eventfd(0, EFD_NONBLOCK_CLOEXEC)
    if (this.wakeFd < 0) throw kernelFailed('eventfd', modules.libc.errno(), '')
    this.#receiver = new MessageReceiver({}, { libc: modules.libc })
  }

  /** @param ownPorts of the sockets whose changes are our own. @throws TwillError kernel.failed */
  start(ownPorts: readonly number[]): void {
    this.#ownPorts = new Set(ownPorts)
    const own = this.#open(c.NETLINK_ROUTE, [
      c.RTNLGRP_LINK,
      c.RTNLGRP_NEIGH,
      c.RTNLGRP_IPV4_IFADDR,
      c.RTNLGRP_IPV6_IFADDR,
      c.RTNLGRP_IPV4_ROUTE,
      c.RTNLGRP_IPV6_ROUTE,
    ])
    const everywhere = this.#open(c.NETLINK_ROUTE, [c.RTNLGRP_LINK])
    everywhere.setNetlinkOption(c.NETLINK_LISTEN_ALL_NSID, 1)
    const netfilter = this.#open(c.NETLINK_NETFILTER, [c.NFNLGRP_NFTABLES])
    this.#requests = new NetlinkSocket({ protocol: c.NETLINK_ROUTE }, { libc: this.#libc })
    const overflowed = () => this.#emit({ type: 'overflow' })
    this.#sources.push(
      { socket: own, visit: message => this.#ownNamespace(message), overflowed },
      {
        socket: everywhere,
        visit: (message, netnsId) => {
          if (netnsId !== null) this.#otherNamespace(message, netnsId)
        },
        overflowed: () => this.askPodMacs(),
      },
      { socket: netfilter, visit: message => this.#nftables(message), overflowed },
    )
  }

  /** Every pod's MAC is told with the next report, whatever was told before. */
  askPodMacs(): void {
    this.#podsMissed = true
    this.#dueMs ??= this.#clock.boottimeMs() + this.#condenseMs
  }

  /** Blocks, as the header says, and reports what is due. */
  wait(): void {
    const fds = [this.wakeFd, ...this.#sources.map(({ socket }) => socket.fd)]
    fds.forEach((fd, i) => {
      this.#pollFds.writeInt32LE(fd, 8 * i)
      this.#pollFds.writeInt32LE(POLLIN, 8 * i + 4)
    })
    this.#libc.poll(this.#pollFds, fds.length, this.#timeoutMs())
    if (this.#pollFds.readInt16LE(6) !== 0) readSync(this.wakeFd, this.#woken)
    this.#sources.forEach((source, i) => {
      if (this.#pollFds.readInt16LE(8 * (i + 1) + 6) !== 0) this.#drain(source)
    })
    if (this.#dueMs !== null && this.#clock.boottimeMs() >= this.#dueMs) this.#report()
  }

  #timeoutMs(): number {
    if (this.#dueMs === null) return LONGEST_WAIT_MS
    return Math.max(0, this.#dueMs - this.#clock.boottimeMs())
  }

  #open(protocol: number, groups: readonly number[]): NetlinkSocket {
    const options = { protocol, receiveBufferBytes: this.#receiveBufferBytes }
    const socket = new NetlinkSocket(options, { libc: this.#libc })
    for (const group of groups) socket.join(group)
    return socket
  }

  #drain({ socket, visit, overflowed }: Source): void {
    for (let i = 0; i < DRAIN_LIMIT; i++) {
      const received = this.#receiver.receive(socket.fd)
      if ('errno' in received) {
        const name = errnoName(received.errno)
        if (name === 'EAGAIN') return
        if (name === 'EINTR') continue
        if (name !== 'ENOBUFS') throw kernelFailed('monitor', received.errno, '')
        overflowed()
      } else forEachMessage(received.bytes, received.size, message => visit(message, received.netnsId))
    }
  }

  #ownNamespace(message: NetlinkMessage): void {
    const { type, port } = message
    if (type === c.RTM_NEWLINK || type === c.RTM_DELLINK) this.#link(message)
    else if (type === c.RTM_NEWADDR || type === c.RTM_DELADDR)
      this.#mark('address', port, this.#isOnHostEnd(message))
    else if (type === c.RTM_NEWROUTE || type === c.RTM_DELROUTE)
      this.#mark('route', port, this.#hostEnds.has(outputOf(message)))
    else if (type === c.RTM_NEWNEIGH || type === c.RTM_DELNEIGH) this.#neighbour(message)
  }

  /** What stands on a link goes before the link does. */
  #link(message: NetlinkMessage): void {
    const index = indexIn(message)
    const wasOne = this.#hostEnds.delete(index)
    const isGone = message.type === c.RTM_DELLINK
    if (isGone) this.#podMacs.delete(index)
    // It may have been given another name.
    const isOne = isGone ? wasOne : nameOf(message).startsWith(POD_LINK_PREFIX)
    if (isOne && !isGone) this.#hostEnds.add(index)
    this.#mark('link', message.port, isOne)
  }

  #isOnHostEnd(message: NetlinkMessage): boolean {
    return this.#hostEnds.has(indexIn(message))
  }

  #neighbour(message: NetlinkMessage): void {
    const state = message.bytes.readUInt16LE(message.start + 8)
    if (message.bytes[message.start] === c.AF_BRIDGE) this.#mark('fdb', message.port)
    else if (message.type === c.RTM_DELNEIGH || state & (c.NUD_PERMANENT | c.NUD_FAILED))
      this.#mark('neighbour', message.port, this.#isOnHostEnd(message))
  }

  /** A veth whose peer is ours says so by its link index. */
  #otherNamespace(message: NetlinkMessage, netnsId: number): void {
    if (message.type !== c.RTM_NEWLINK) return
    const { kind, index, peerIndex, peerNetnsId, mac } = readLink(message)
    if (kind !== 'veth' || peerIndex === null || peerNetnsId === null || mac === null) return
    this.#claims.set(`${netnsId} ${index}`, { hostIndex: peerIndex, podIndex: index, netnsId, mac })
    this.#dueMs ??= this.#clock.boottimeMs() + this.#condenseMs
  }

  #reportPods(): void {
    const claims = [...this.#claims.values()]
    this.#claims.clear()
    if (this.#podsMissed) this.#reportAllPods()
    for (const claim of claims)
      if (this.#podMacs.get(claim.hostIndex) !== claim.mac) this.#reportIfTrue(claim)
  }

  /** The node's own link is asked, which only root on the node can change. */
  #reportIfTrue({ hostIndex, podIndex, netnsId, mac }: PeerClaim): void {
    const host = this.#get(writeGetLink(this.#request.reset(), hostIndex))
    if (host === null || !isHostEnd(host)) return
    if (host.peerIndex === podIndex && host.peerNetnsId === netnsId) this.#reportPod(host, mac)
  }

  #reportAllPods(): void {
    this.#podsMissed = false
    this.#podMacs.clear()
    const socket = this.#requests as NetlinkSocket
    for (const host of socket.dump('read host ends', writeDumpLinks(this.#request), readLink)) {
      if (!isHostEnd(host) || host.peerIndex === null || host.peerNetnsId === null) continue
      const pod = this.#get(writeGetPeer(this.#request.reset(), host.peerIndex, host.peerNetnsId))
      if (pod?.mac != null) this.#reportPod(host, pod.mac)
    }
  }

  #reportPod({ index, name }: LinkRecord, mac: string): void {
    this.#podMacs.set(index, mac)
    this.#emit({ type: 'pod-mac', hostIndex: index, hostInterface: name, mac })
  }

  #get(request: Datagram): LinkRecord | null {
    const reply = (this.#requests as NetlinkSocket).execute(request)[0]?.replies[0]
    return reply === undefined ? null : readLink(reply)
  }

  #nftables(message: NetlinkMessage): void {
    const kind = message.type & 0xff
    if (message.type >> 8 !== c.NFNL_SUBSYS_NFTABLES || kind === NFT_MSG_NEWGEN) return
    const family = message.bytes[message.start] as number
    const table = tableOf(message)
    const isOurs = family === NFPROTO_INET && table === NFT_TABLE
    // Others' tables concern us where they gain or lose chains (a new one may drop), and where our jumps are.
    const concerns =
      isOurs || table === FILTER_TABLE || (kind >= NFT_MSG_NEWCHAIN && kind <= NFT_MSG_DELCHAIN)
    if (concerns) this.#mark('netfilter', message.port)
  }

  #mark(domain: Domain, port: number, ofPods = false): void {
    const by = this.#ownPorts.has(port) ? 'us' : port === 0 ? 'kernel' : 'others'
    const { author, pods } = this.#changed.get(domain) ?? { author: by, pods: true }
    const strangest = AUTHORS.indexOf(by) > AUTHORS.indexOf(author) ? by : author
    this.#changed.set(domain, { author: strangest, pods: pods && ofPods })
    this.#dueMs ??= this.#clock.boottimeMs() + this.#condenseMs
  }

  #report(): void {
    this.#dueMs = null
    this.#reportPods()
    const changed = [...this.#changed]
    this.#changed.clear()
    for (const [domain, { author, pods }] of changed)
      this.#emit({
        ...({ type: 'changed', domain, own: author === 'us' } as const),
        ...(author === 'kernel' ? { consequence: true } : {}),
        ...(pods ? { pods } : {}),
      })
  }
}

const isHostEnd = ({ kind, name }: LinkRecord): boolean => kind === 'veth' && name.startsWith(POD_LINK_PREFIX)

/** Of struct ifinfomsg, ifaddrmsg and ndmsg alike. */
const indexIn = ({ bytes, start }: NetlinkMessage): number => bytes.readInt32LE(start + 4)

/** Name of the link that a message is about. */
function nameOf({ bytes, start, end }: NetlinkMessage): string {
  let name = ''
  forEachAttribute(bytes, start + 16, end, (type, payload) => {
    if (type === c.IFLA_IFNAME) name = readString(payload)
  })
  return name
}

/** Index of the one link that a route leads to; 0: none, or several. */
function outputOf({ bytes, start, end }: NetlinkMessage): number {
  let output = 0
  forEachAttribute(bytes, start + 12, end, (type, payload) => {
    if (type === c.RTA_OIF) output = payload.readUInt32LE(0)
  })
  return output
}

/** Name of the table that an nftables message (struct nfgenmsg, 4 octets, then attributes) belongs to. */
function tableOf(message: NetlinkMessage): string | null {
  let table: string | null = null
  forEachAttribute(message.bytes, message.start + 4, message.end, (type, payload) => {
    if (type === NFTA_TABLE) table ??= readString(payload)
  })
  return table
}
