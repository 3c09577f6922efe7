/**
 * The kernel floor of attaching and detaching a pod: the same messages by the same transport, in a loop, and
 * nothing else. No daemon, no threads, no policy, no addresses to find. What an ADD takes is judged against it.
 *
 * Run directly (as root) it makes namespaces of its own and prints medians in milliseconds, or, with --json, every
 * measurement. An argument says how many pods.
 */
import { execFileSync } from 'node:child_process'
import { closeSync, openSync } from 'node:fs'
import { pathToFileURL } from 'node:url'
import koffi from 'koffi'
import { OWN_PATHS } from '../kernel/host-paths.ts'
import type { PodEndpointSpec } from '../kernel/kernel.ts'
import { CLONE_NEWNET } from '../kernel/netlink/constants.ts'
import { Datagram } from '../kernel/netlink/datagram.ts'
import { type Libc, loadLibc } from '../kernel/netlink/libc.ts'
import { readLink } from '../kernel/netlink/links.ts'
import { NetlinkSocket } from '../kernel/netlink/socket.ts'
import { Namespaces } from '../kernel/netns/namespaces.ts'
import { REAP_GROUP } from '../kernel/ownership.ts'
import { writeDown, writeGroup, writeHostEnd, writePair, writePodEnd } from '../kernel/pod/messages.ts'
import { reapLinks } from '../kernel/pod/reap.ts'
import { Sysctls } from '../kernel/sysctl.ts'
import { type Ip, parseIp } from '../lib/address.ts'

export interface KernelFloor {
  /** Milliseconds, one for each pod, in the order they were made. */
  readonly attachMs: number[]
  readonly detachMs: number[]
}

/**
 * Attaches and detaches a dual-stack pod in each namespace, from the namespace that the calling thread is in, and
 * leaves nothing. @throws TwillError kernel.failed
 */
export function measureKernelFloor(namespacePaths: readonly string[], modules: { libc: Libc }): KernelFloor {
  const floor = new Floor(modules.libc)
  const attachMs = namespacePaths.map((path, i) => timed(() => floor.attach(path, i)))
  const detachMs = namespacePaths.map((path, i) => timed(() => floor.detach(path, i)))
  floor.end()
  return { attachMs, detachMs }
}

class Floor {
  readonly #libc: Libc
  readonly #socket: NetlinkSocket
  readonly #namespaces: Namespaces
  readonly #sysctls = new Sysctls({ root: OWN_PATHS.sysctls })
  readonly #request = new Datagram(16384)
  readonly #received = Buffer.allocUnsafeSlow(65536)
  readonly #pairs: { host: number; pod: number }[] = []

  constructor(libc: Libc) {
    this.#libc = libc
    this.#socket = new NetlinkSocket({ protocol: 0 }, { libc })
    this.#namespaces = new Namespaces(OWN_PATHS, { libc })
  }

  attach(path: string, i: number): void {
    const { spec, addresses } = podOf(path, i)
    const fd = openSync(path, 'r')
    writePair(this.#request, spec, fd)
    const reply = this.#socket.executeAll('pair', this.#request)[0]?.replies[0]
    if (reply === undefined) throw new Error('the pair was not echoed')
    const { index: host, peerIndex } = readLink(reply)
    this.#pairs[i] = { host, pod: peerIndex as number }
    const socket = this.#enter(fd, path, spec.podInterface)
    this.#writeIpv6Sysctls(spec.hostInterface)
    const ends = { index: host, podMac: spec.podMac as string, ipv6: true, withSource: true }
    writeHostEnd(this.#request, spec, ends)
    this.#socket.executeAll('host end', this.#request)
    writePodEnd(this.#request, addresses, peerIndex as number)
    socket.executeAll('pod end', this.#request)
    socket.close()
    closeSync(fd)
  }

  detach(path: string, i: number): void {
    const { host, pod } = this.#pairs[i] as { host: number; pod: number }
    writeDown(this.#request, host, [])
    this.#socket.executeAll('host end down', this.#request)
    const fd = openSync(path, 'r')
    const socket = this.#enter(fd, path, null)
    writeDown(this.#request, pod, podOf(path, i).addresses.slice(0, 1))
    socket.executeAll('pod end down', this.#request)
    socket.close()
    closeSync(fd)
    writeGroup(this.#request, host, REAP_GROUP)
    this.#socket.executeAll('group', this.#request)
  }

  end(): void {
    reapLinks(this.#socket)
    this.#socket.close()
    this.#namespaces.dispose()
  }

  #enter(fd: number, path: string, device: string | null): NetlinkSocket {
    return this.#namespaces.within(fd, path, () => {
      if (device !== null) this.#writeIpv6Sysctls(device)
      return new NetlinkSocket({ protocol: 0, receiveInto: this.#received }, { libc: this.#libc })
    })
  }

  #writeIpv6Sysctls(device: string): void {
    this.#sysctls.write(`net/ipv6/conf/${device}/accept_ra`, '0')
    this.#sysctls.write(`net/ipv6/conf/${device}/disable_ipv6`, '0')
  }
}

function podOf(path: string, i: number): { spec: PodEndpointSpec; addresses: Ip[] } {
  const hex = (i + 1).toString(16)
  const texts = [`10.127.${(i + 1) >> 8}.${(i + 1) & 255}`, `fd7f::${hex}`] as const
  const spec: PodEndpointSpec = {
    netns: { path, dev: null, ino: null },
    podInterface: 'eth0',
    hostInterface: `twl${hex.padStart(12, 'f')}`,
    alias: `twill:pod:floor-${i}`,
    podMac: `02:ff:00:00:${((i + 1) >> 8).toString(16).padStart(2, '0')}:${((i + 1) & 255).toString(16).padStart(2, '0')}`,
    mtu: 1450,
    addresses: [
      { family: 4, address: texts[0], routeSource: null },
      { family: 6, address: texts[1], routeSource: null },
    ],
    netnsCookie: null,
    gatewayOnHostEnd: false,
  }
  return { spec, addresses: texts.map(parseIp) }
}

function timed(work: () => void): number {
  const begin = process.hrtime.bigint()
  work()
  return Number(process.hrtime.bigint() - begin) / 1e6
}

const median = (values: readonly number[]) => [...values].sort((a, b) => a - b)[values.length >> 1] as number

function main(): void {
  const count = Number(process.argv[2] ?? 100)
  const CLONE_NEWNS = 0x20000
  const unshare = koffi.load('libc.so.6').func('int unshare(int flags)')
  if (unshare(CLONE_NEWNET | CLONE_NEWNS) !== 0) throw new Error('unshare: root is needed')
  const setUp = `mount --make-rprivate /; mkdir -p /run/netns; mount -t tmpfs none /run/netns
    i=0; while [ $i -lt ${count} ]; do ip netns add f$i; i=$((i+1)); done`
  execFileSync('/bin/sh', ['-ec', setUp])
  const paths = Array.from({ length: count }, (_, i) => `/run/netns/f${i}`)
  const { attachMs, detachMs } = measureKernelFloor(paths, { libc: loadLibc() })
  if (process.argv.includes('--json')) {
    console.log(JSON.stringify({ attachMs, detachMs }))
    return
  }
  console.log(
    `kernel floor, median of ${count}: attach ${median(attachMs).toFixed(2)} ms, detach ${median(detachMs).toFixed(2)} ms`,
  )
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) main()
