/** Facts of a node with one pod on which every source agrees. */
import { aliasOf } from '../../../../daemon/attach/identity.ts'
import type { NodeFacts } from '../../../../daemon/audit/compare.ts'
import type { Attachment, Lease } from '../../../../daemon/journal/records.ts'
import type { PodState } from '../../../../kernel/kernel.ts'
import { HOST_MAC, ROUTE_PROTOCOL } from '../../../../kernel/ownership.ts'
import { parseCidr } from '../../../../lib/address.ts'
import { link } from '../kernel-model.ts'

export const DEVICE = 'twl000000000001'
export const MAC = '02:00:00:00:00:aa'
export const ADDRESS = '10.244.0.1'

export const POD: Attachment = {
  id: 'a1',
  network: 'twill',
  containerId: 'c1',
  ifName: 'eth0',
  netns: { path: '/run/netns/c1', dev: '4', ino: '7' },
  netnsCookie: 'cookie',
  hostInterface: DEVICE,
  podMac: MAC,
  mtu: 1450,
  addresses: [{ family: 4, address: ADDRESS, poolUid: 'p', slot: '10.244.0.0/26', generation: 3 }],
  pod: { namespace: 'default', name: 'web', uid: 'u1' },
  boot: 'boot:1',
  begunBoottimeMs: 1000,
  since: 0,
  state: 'attached',
}

/** Of a pod whose interface another plugin made. */
export const LEASE: Lease = {
  id: 'l1',
  network: 'bridged',
  containerId: 'c2',
  ifName: 'eth0',
  netns: { path: '/run/netns/c2', dev: '4', ino: '8' },
  netnsCookie: 'cookie-2',
  addresses: [{ family: 4, address: '10.9.0.5', poolUid: 'q', slot: '10.9.0.0/26', generation: 1 }],
  pod: { namespace: 'default', name: 'bridged', uid: 'u2' },
  boot: 'boot:1',
  begunBoottimeMs: 1000,
  since: 0,
}

export const HOLDER: NodeFacts['holders'][number] = {
  holder: { ...POD, kind: 'pod' },
  addresses: POD.addresses,
}

export const INSIDE: NonNullable<PodState['pod']> = {
  ...link('eth0', { mac: MAC }),
  addresses: [
    {
      device: 'eth0',
      family: 4,
      address: ADDRESS,
      prefix: 32,
      scope: 0,
      tentative: false,
      nodad: false,
      permanent: true,
    },
  ],
  routes: [],
  neighbours: [],
}

export const ROUTE: NodeFacts['routes'][number] = {
  family: 4,
  dst: `${ADDRESS}/32`,
  type: 'unicast',
  device: DEVICE,
  gateway: null,
  src: null,
  metric: 0,
  protocol: ROUTE_PROTOCOL,
  table: 254,
  scope: 253,
  onlink: false,
  mtu: null,
}

export const SANDBOX = { id: 'c1', pod: { namespace: 'default', name: 'web' }, ready: true }

export function agreeing(changes: Partial<NodeFacts> = {}): NodeFacts {
  return {
    nowBoottimeMs: 1_000_000,
    attachments: [POD],
    leases: [],
    busy: new Set(),
    namespaces: new Map([['a1', { is: 'same', pod: INSIDE }]]),
    inhabited: new Map(),
    holders: [HOLDER],
    ledger: new Map([[ADDRESS, 'a1']]),
    links: [link(DEVICE, { alias: aliasOf('a1'), mac: HOST_MAC, kind: 'veth' })],
    routes: [ROUTE],
    neighbours: [{ device: DEVICE, family: 4, address: ADDRESS, mac: MAC, permanent: true }],
    runtime: { sandboxes: [SANDBOX], addresses: new Map() },
    pools: [parseCidr('10.244.0.0/16')],
    ...changes,
  }
}
