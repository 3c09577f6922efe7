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
 * Invariant: after an overflow (ENOBUFS) everything may have changed, and the listener is told so. Trap: tracked
 * neighbours change state all the time; only permanent entries and disappearances count.
 */
import { readSync } from 'node:fs'
import type { Clock } from '../../lib/clock.ts'
import type { KernelEvent } from '../kernel.ts'
import { forEachAttribute, readString } from '../netlink/attributes.ts'
import * as c from '../netlink/constants.ts'
import { errnoName, kernelFailed, type Libc } from '../netlink/libc.ts'
import { readLink } from '../netlink/links.ts'
import { forEachMessage, type NetlinkMessage, NetlinkSocket } from '../netlink/socket.ts'
import { NFT_TABLE } from '../ownership.ts'
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
}

/** In order of strangeness. What the kernel does by itself comes from port 0: also what follows from our own calls. */
const AUTHORS = ['us', 'kernel', 'others'] as const
type Author = (typeof AUTHORS)[number]

type Domain = Extract<KernelEvent, { type: 'changed' }>['domain']

const POLLIN = 1
const EFD_NONBLOCK_CLOEXEC = 0o2004000
const LONGEST_WAIT_MS = 250
const RECEIVE_BUFFER_BYTES = 8 << 20
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
  /** Domain → the strangest of those who changed it. */
  readonly #changed = new Map<Domain, Author>()
  /** Index of the host end → MAC last heard of its pod end. */
  readonly #podMacs = new Map<number, string>()
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
    this.#sources.push(
      { socket: own, visit: message => this.#ownNamespace(message) },
      {
        socket: everywhere,
        visit: (message, netnsId) => {
          if (netnsId !== null) this.#otherNamespace(message)
        },
      },
      { socket: netfilter, visit: message => this.#nftables(message) },
    )
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

  #drain({ socket, visit }: Source): void {
    for (;;) {
      const received = this.#receiver.receive(socket.fd)
      if ('errno' in received) {
        const name = errnoName(received.errno)
        if (name === 'EAGAIN') return
        if (name === 'EINTR') continue
        if (name !== 'ENOBUFS') throw kernelFailed('monitor', received.errno, '')
        this.#podMacs.clear()
        this.#emit({ type: 'overflow' })
      } else forEachMessage(received.bytes, received.size, message => visit(message, received.netnsId))
    }
  }

  #ownNamespace(message: NetlinkMessage): void {
    const { type } = message
    if (type === c.RTM_NEWLINK || type === c.RTM_DELLINK) {
      if (type === c.RTM_DELLINK) this.#podMacs.delete(message.bytes.readInt32LE(message.start + 4))
      this.#mark('link', message.port)
    } else if (type === c.RTM_NEWADDR || type === c.RTM_DELADDR) this.#mark('address', message.port)
    else if (type === c.RTM_NEWROUTE || type === c.RTM_DELROUTE) this.#mark('route', message.port)
    else if (type === c.RTM_NEWNEIGH || type === c.RTM_DELNEIGH) this.#neighbour(message)
  }

  #neighbour(message: NetlinkMessage): void {
    const state = message.bytes.readUInt16LE(message.start + 8)
    if (message.bytes[message.start] === c.AF_BRIDGE) this.#mark('fdb', message.port)
    else if (message.type === c.RTM_DELNEIGH || state & (c.NUD_PERMANENT | c.NUD_FAILED))
      this.#mark('neighbour', message.port)
  }

  /** A veth whose peer is ours says so by its link index; what it was before is only known if we heard it. */
  #otherNamespace(message: NetlinkMessage): void {
    if (message.type !== c.RTM_NEWLINK) return
    const { kind, peerIndex, mac } = readLink(message)
    if (kind !== 'veth' || peerIndex === null || mac === null || this.#podMacs.get(peerIndex) === mac) return
    this.#podMacs.set(peerIndex, mac)
    this.#emit({ type: 'pod-mac', hostIndex: peerIndex, mac })
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

  #mark(domain: Domain, port: number): void {
    const author = this.#ownPorts.has(port) ? 'us' : port === 0 ? 'kernel' : 'others'
    const before = this.#changed.get(domain) ?? 'us'
    this.#changed.set(domain, AUTHORS.indexOf(author) > AUTHORS.indexOf(before) ? author : before)
    this.#dueMs ??= this.#clock.boottimeMs() + this.#condenseMs
  }

  #report(): void {
    this.#dueMs = null
    const changed = [...this.#changed]
    this.#changed.clear()
    for (const [domain, author] of changed) {
      const event = { type: 'changed', domain, own: author === 'us' } as const
      this.#emit(author === 'kernel' ? { ...event, consequence: true } : event)
    }
  }
}

/** Name of the table that an nftables message (struct nfgenmsg, 4 octets, then attributes) belongs to. */
function tableOf(message: NetlinkMessage): string | null {
  let table: string | null = null
  forEachAttribute(message.bytes, message.start + 4, message.end, (type, payload) => {
    if (type === NFTA_TABLE) table ??= readString(payload)
  })
  return table
}
