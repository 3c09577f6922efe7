/** Who a node that starts, or leaves, knows to live on it. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { leaseId } from '../../../cni-bin/attachment-id.ts'
import { journaledHolders, livingHolders } from '../../../daemon/journal/holders.ts'
import { type Lease, replayJournal } from '../../../daemon/journal/records.ts'
import type { SlotRecord } from '../../../datastore/records/slot.ts'
import type { HeldAddress } from '../../../ipam/ipam.ts'
import { leaveCluster } from '../../../ipam/leave.ts'
import { settle } from '../../fixtures/manual-clock.ts'
import { Rig } from '../ipam/rig.ts'

const lease = (containerId: string, boot: string, addresses: HeldAddress[] = []): Lease => ({
  id: leaseId('lan', containerId, 'net1'),
  network: 'lan',
  containerId,
  ifName: 'net1',
  netns: { path: '/run/netns/x', dev: null, ino: null },
  netnsCookie: '7',
  addresses,
  pod: null,
  boot,
  begunBoottimeMs: 5,
  since: 6,
})
const attachment = (containerId: string, boot: string) => ({
  ...lease(containerId, boot),
  id: containerId,
  hostInterface: 'twl000000000001',
  podMac: null,
  mtu: 1450,
  state: 'attaching' as const,
})

test('pods and leases hold, each as what they are; only those of this boot live', () => {
  const found = replayJournal([
    { t: 'attach', attachment: attachment('p1', 'now') },
    { t: 'attach', attachment: attachment('p0', 'before') },
    { t: 'lease', lease: lease('c1', 'now') },
    { t: 'lease', lease: lease('c0', 'before') },
  ])
  const names = (all: ReturnType<typeof journaledHolders>) =>
    all.map(({ holder }) => `${holder.kind} ${holder.containerId}`)
  assert.equal(names(journaledHolders(found)), ['pod p1', 'pod p0', 'ipam c1', 'ipam c0'])
  assert.equal(names(livingHolders(found, 'now')), ['pod p1', 'ipam c1'])
})

test('a node that leaves keeps the addresses that it has lent: they are fenced, and no other node has them', async () => {
  const rig = new Rig()
  await rig.createPool('default', '10.0.0.0/28', 28)
  const [a, b] = [rig.node('a'), rig.node('b')]
  a.start()
  b.start()
  await settle()
  const addresses = await a.add('lent')
  await a.ipam?.stop()
  a.kill()
  a.attachments.clear()
  const found = replayJournal([{ t: 'lease', lease: lease('c1', a.boot, addresses) }])
  for (const each of livingHolders(found, a.boot))
    a.attachments.set(each.holder.id, { holder: each.holder, addresses: [...each.addresses] })
  const leaving = leaveCluster(
    { uid: a.uid, name: a.name, hardware: 'hw-a' },
    { store: a.store, random: rig.random, ipam: a.start() },
  )
  for (let i = 0; i < 20; i++) await rig.clock.advance(100)
  assert.is((await leaving).fenced, 1)
  const [[, slot]] = rig.under<SlotRecord>('slots/') as [[string, SlotRecord]]
  assert.is(slot.parts.find(({ owner }) => owner === a.uid)?.fence === null, false)
})

test.run()
