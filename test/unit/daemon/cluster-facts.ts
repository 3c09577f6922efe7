/** Facts of a small dual-stack cluster, as seen by node1; tests change what they are about. */
import type { AttachmentFacts, Facts, SelfFacts } from '../../../daemon/desired/facts.ts'
import type { NodeRecord } from '../../../datastore/records/node.ts'
import type { SlotRecord } from '../../../datastore/records/slot.ts'
import type { IPPool } from '../../../datastore/resources/ippool.ts'
import { vtepMac } from '../../../routing/vxlan/vtep.ts'

export const UNDERLAY = { address: '192.168.77.1', device: 'eth0', mtu: 1500 }

export function pool(name: string, cidr: string, more: Partial<IPPool['spec']> = {}): IPPool {
  return {
    apiVersion: 'twill.network/v1alpha1',
    kind: 'IPPool',
    metadata: { name, uid: `uid-${name}` },
    spec: {
      cidr,
      encapsulation: 'Always',
      routes: 'Datastore',
      natOutgoing: true,
      disabled: false,
      allowedUses: ['pod', 'tunnel'],
      ...more,
    },
  }
}

export function node(number: number, more: Partial<NodeRecord> = {}): NodeRecord {
  return {
    v: 1,
    name: `node${number}`,
    uid: `uid-node${number}`,
    incarnation: 'boot',
    underlay: { 4: `192.168.77.${number}` },
    hostAddresses: [`172.30.0.${number}`],
    vteps: [{ family: 4, mac: vtepMac(`uid-node${number}`), vni: 4242, port: 4789 }],
    tunnel: { 4: `10.244.${number}.0`, 6: `fd00:244::${number}00` },
    ...more,
  }
}

export function slot(...parts: [cidr: string, owner: string | null][]): SlotRecord {
  return {
    v: 1,
    generation: 1,
    requests: [],
    parts: parts.map(([cidr, owner]) => ({
      cidr,
      owner,
      generation: 1,
      claim: null,
      fence: null,
      cooling: {},
    })),
  }
}

export function attachment(number: number, more: Partial<AttachmentFacts> = {}): AttachmentFacts {
  return {
    id: `attachment${number}`,
    hostInterface: `twl00000000000${number}`,
    podMac: `02:aa:00:00:00:0${number}`,
    mtu: 1450,
    addresses: [
      { family: 4, address: `10.244.1.${number}` },
      { family: 6, address: `fd00:244::10${number}` },
    ],
    state: 'attached',
    busy: false,
    ...more,
  }
}

export function self(more: Partial<SelfFacts> = {}): SelfFacts {
  return {
    name: 'node1',
    uid: 'uid-node1',
    underlay: { 4: UNDERLAY },
    hostAddresses: ['172.30.0.1'],
    vtep: { mac: vtepMac('uid-node1'), vni: 4242, port: 4789 },
    tunnel: { 4: '10.244.1.0', 6: 'fd00:244::100' },
    arpIgnore: 0,
    ...more,
  }
}

/** node1 with two pods; node2 and node3 with a part of each family; a slot that nobody owns. */
export function facts(more: Partial<Facts> = {}): Facts {
  const slots = new Map<string, SlotRecord>()
  for (const number of [1, 2, 3]) {
    const owner = `uid-node${number}`
    slots.set(`slots/uid-v4/10.244.${number}.0-26`, slot([`10.244.${number}.0/26`, owner]))
    slots.set(`slots/uid-v6/fd00:244::${number}00-122`, slot([`fd00:244::${number}00/122`, owner]))
  }
  slots.set('slots/uid-v4/10.244.9.0-26', slot(['10.244.9.0/26', null]))
  return {
    known: true,
    complete: true,
    self: self(),
    nodes: [node(1), node(2), node(3)],
    pools: [pool('v4', '10.244.0.0/16'), pool('v6', 'fd00:244::/48')],
    slots,
    attachments: [attachment(1), attachment(2)],
    ...more,
  }
}
