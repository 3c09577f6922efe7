/** The fake and the real kernel behind one set of strings, for the contract suite. */
import { execFileSync } from 'node:child_process'
import { statSync } from 'node:fs'
import koffi from 'koffi'
import { FakeKernel } from '../../kernel/fake/kernel.ts'
import type { Kernel, NetnsRef, PodEndpointSpec } from '../../kernel/kernel.ts'
import { CLONE_NEWNET } from '../../kernel/netlink/constants.ts'
import { createKernel } from '../../kernel/real.ts'
import { silentLog } from '../../lib/log.ts'

export interface World {
  readonly kernel: Kernel
  /** A fresh network namespace; one of that name that was there is gone. */
  addNamespace(name: string): NetnsRef
  removeNamespace(name: string): void
  /** A device that is not ours, in a link group. */
  addForeignLink(name: string, group: number): void
  removeLink(name: string): void
  /** Host ends named in the table's elements, sorted. */
  policies(): string[]
  /** Somebody deletes our nftables table. */
  deleteTable(): void
}

const CLONE_NEWNS = 0x20000

/**
 * Moves this thread, and with it the processes and threads it starts from now on, into network and mount
 * namespaces of its own. They end with the process, however it ends.
 */
export function enterOwnNamespaces(): void {
  const unshare = koffi.load('libc.so.6').func('int unshare(int flags)')
  if (unshare(CLONE_NEWNET | CLONE_NEWNS) !== 0)
    throw new Error(`unshare: errno ${koffi.errno()}: root is needed`)
  sh(NODE_SETUP)
}

export const sh = (command: string): string => execFileSync('/bin/sh', ['-ec', command], { encoding: 'utf8' })

const NODE_SETUP = `
mount --make-rprivate /
mkdir -p /run/netns && mount -t tmpfs none /run/netns
ip link set lo up
ip addr add 192.0.2.1/32 dev lo
ip addr add 2001:db8::1/128 dev lo nodad
sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1`

export async function realWorld(): Promise<World> {
  const kernel = await createKernel({}, { log: silentLog })
  return {
    kernel,
    addNamespace(name) {
      sh(`ip netns del ${name} 2>/dev/null || true; ip netns add ${name}`)
      return refOf(`/run/netns/${name}`)
    },
    removeNamespace: name => void sh(`ip netns del ${name}`),
    addForeignLink: (name, group) =>
      void sh(`ip link add ${name} type bridge; ip link set ${name} group ${group}`),
    removeLink: name => void sh(`ip link del ${name}`),
    policies: () =>
      [...sh('nft list set inet twill pods').matchAll(/"(twl\w+)"/g)]
        .map(([, name]) => name as string)
        .sort(),
    deleteTable: () => void sh('nft delete table inet twill'),
  }
}

export function fakeWorld(): World & { kernel: FakeKernel } {
  const kernel = new FakeKernel()
  kernel.node.apply(loAddress(4, '192.0.2.1', 32))
  kernel.node.apply(loAddress(6, '2001:db8::1', 128))
  kernel.node.sysctls.set('net/ipv4/ip_forward', '1')
  return {
    kernel,
    addNamespace: name => kernel.addNamespace(`/run/netns/${name}`),
    removeNamespace: name => kernel.removeNamespace(`/run/netns/${name}`),
    addForeignLink: (name, group) => void kernel.node.addLink({ name, kind: 'bridge', group }),
    removeLink: name => kernel.node.removeLink(name),
    policies: () =>
      kernel
        .elements()
        .map(({ element }) => /twl\w+/.exec(element)?.[0] ?? '')
        .sort(),
    deleteTable: () => kernel.deleteRuleset(),
  }
}

function loAddress(family: 4 | 6, address: string, prefix: number) {
  return { type: 'address.add', device: 'lo', family, address, prefix, scope: 0, nodad: true } as const
}

export function refOf(path: string): NetnsRef {
  const { dev, ino } = statSync(path, { bigint: true })
  return { path, dev: dev.toString(), ino: ino.toString() }
}

/** A pod's endpoint, number `n` from 1 on; addresses and names follow from the number. */
export function podSpec(n: number, netns: NetnsRef, change: Partial<PodEndpointSpec> = {}): PodEndpointSpec {
  const hex = n.toString(16)
  return {
    netns,
    podInterface: 'eth0',
    hostInterface: `twl${hex.padStart(12, '0')}`,
    alias: `twill:pod:${n}`,
    podMac: `02:00:00:00:${(n >> 8).toString(16).padStart(2, '0')}:${(n & 255).toString(16).padStart(2, '0')}`,
    mtu: 1450,
    addresses: [
      { family: 4, address: `10.64.${n >> 8}.${n & 255}`, routeSource: '192.0.2.1' },
      { family: 6, address: `fd64::${hex}`, routeSource: '2001:db8::1' },
    ],
    netnsCookie: null,
    gatewayOnHostEnd: false,
    ...change,
  }
}
