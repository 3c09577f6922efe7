import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { adoptable } from '../../../daemon/attach/adopt.ts'
import { aliasOf } from '../../../daemon/attach/identity.ts'
import type { Attachment } from '../../../daemon/journal/records.ts'
import type { Link, Neighbour } from '../../../kernel/kernel.ts'
import { REAP_GROUP } from '../../../kernel/ownership.ts'

const address = { family: 4 as const, address: '10.0.0.7', poolUid: 'p', slot: '10.0.0.0/26', generation: 3 }
const holder = {
  id: 'a1',
  kind: 'pod' as const,
  network: 'twill',
  containerId: 'c1',
  ifName: 'eth0',
  pod: null,
  since: 5,
}
const link = { name: 'twl1', alias: aliasOf('a1'), group: 0, mtu: 1450 } as Link
const neighbour: Neighbour = {
  device: 'twl1',
  family: 4,
  address: '10.0.0.7',
  mac: '02:00:00:00:00:07',
  permanent: true,
}
const survivors = {
  holders: [{ holder, addresses: [address] }],
  links: [link],
  neighbours: [neighbour],
  boot: 'b',
}

test('a pod that kernel and ledger know is attached, whatever the journal lost', () => {
  const [found, ...others] = adoptable(new Map(), survivors)
  assert.equal(others, [])
  assert.is(found?.id, 'a1')
  assert.is(found?.containerId, 'c1')
  assert.is(found?.hostInterface, 'twl1')
  assert.is(found?.podMac, '02:00:00:00:00:07')
  assert.is(found?.mtu, 1450)
  assert.is(found?.state, 'attached')
  assert.equal(found?.addresses, [address])
  assert.is(found?.begunBoottimeMs, 0, 'a spooled DEL reaches it')
})

test('what only one of them knows, what is being deleted, and what the journal has is left alone', () => {
  assert.equal(adoptable(new Map(), { ...survivors, holders: [] }), [])
  assert.equal(adoptable(new Map(), { ...survivors, links: [] }), [])
  assert.equal(adoptable(new Map(), { ...survivors, links: [{ ...link, group: REAP_GROUP }] }), [])
  const tunnel = { ...holder, kind: 'tunnel' as const }
  assert.equal(
    adoptable(new Map(), { ...survivors, holders: [{ holder: tunnel, addresses: [address] }] }),
    [],
  )
  for (const state of ['attached', 'detaching'] as const)
    assert.equal(adoptable(new Map([['a1', { state } as Attachment]]), survivors), [])
})

test('an intent whose end was lost keeps what it knows', () => {
  const netns = { path: '/run/netns/x', dev: '1', ino: '2' }
  const [found] = adoptable(new Map([['a1', { state: 'attaching', netns } as Attachment]]), survivors)
  assert.is(found?.state, 'attached')
  assert.equal(found?.netns, netns)
})

test.run()
