/**
 * A machine is back whose name another one has taken: what its daemon does before it ends. The fake kernel is held to
 * the real one by the kernel's contract suite.
 */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { endpointSpec } from '../../../daemon/attach/endpoint.ts'
import { endWithoutName } from '../../../daemon/attach/name-lost.ts'
import {
  type Attachment,
  type JournalRecord,
  type Lease,
  replayJournal,
} from '../../../daemon/journal/records.ts'
import { ADDRESS_SPACE_KEY } from '../../../datastore/keys.ts'
import { MemoryCluster } from '../../../datastore/memory/cluster.ts'
import { MemoryStore } from '../../../datastore/memory/store.ts'
import type { LivenessRecord } from '../../../datastore/records/liveness.ts'
import { emptySpace } from '../../../ipam/address-space.ts'
import { FakeKernel } from '../../../kernel/fake/kernel.ts'
import { REAP_GROUP } from '../../../kernel/ownership.ts'
import { systemClock } from '../../../lib/clock.ts'
import { isTwillError, TwillError } from '../../../lib/errors.ts'
import { silentLog } from '../../../lib/log.ts'
import { endpointElements, SETS } from '../../../routing/vxlan/elements.ts'
import { slot } from './cluster-facts.ts'

const BOOT = 'boot:1'
const OURS = 'uuid=;macs=02:00:00:00:00:01'
const THEIRS = 'uuid=;macs=02:00:00:00:00:02'
const NODE = { routeSource: () => null, podMtu: () => 1450, gatewayOnHostEnd: false }
const taken = new TwillError('node.name-taken', 'node name n is taken', { name: 'n' })

const held = (address: string) => ({
  family: address.includes(':') ? (6 as const) : (4 as const),
  address,
  poolUid: 'p',
  slot: '10.0.0.0/26',
  generation: 1,
})

function liveness(uid: string, hardware: string): LivenessRecord {
  const removed = { fence: 'f', by: 'x', endsWith: 'return' as const }
  return { v: 1, uid, name: 'n', hardware, heartbeat: 1, heartbeatMs: 1, allowanceMs: 1, removed }
}

/** Part of 10.0.0.0/26 that the old UID still has, fenced, beside one that others have by now. */
function fencedSlot() {
  const [lower, upper] = slot(['10.0.0.0/27', 'old'], ['10.0.0.32/27', 'other']).parts
  const fence = { id: 'f', allowanceMs: 1 }
  return { ...slot(), parts: [{ ...lower, fence }, upper] }
}

class Machine {
  readonly kernel = new FakeKernel()
  readonly store: MemoryStore
  readonly #cluster = new MemoryCluster()
  journal: JournalRecord[] = []
  journaledUid: string | null = 'old'
  hardware = OURS
  diskFull = false

  constructor() {
    this.store = new MemoryStore({}, { cluster: this.#cluster, clock: systemClock })
  }

  static async withPods(pods: Record<string, string[]>): Promise<Machine> {
    const machine = new Machine()
    machine.put('slots/p/10.0.0.0-26', fencedSlot())
    machine.put('slots/p/10.0.0.64-26', slot(['10.0.0.64/26', null]))
    machine.put('liveness/old', liveness('old', OURS))
    machine.put('liveness/other', liveness('other', THEIRS))
    const elements = new Map(
      [4, 6].flatMap(f => [SETS.endpoints(f as 4), SETS.hairpins(f as 4)]).map(s => [s, new Set<string>()]),
    )
    await machine.kernel.replaceRuleset({ chains: '', elements })
    for (const [i, [id, addresses]] of Object.entries(pods).entries()) await machine.attach(i, id, addresses)
    return machine
  }

  put(key: string, record: object | string | null): void {
    const expected = this.#cluster.get(key)?.modRevision ?? 0
    const value = record === null || typeof record === 'string' ? record : JSON.stringify(record)
    this.#cluster.commit({ key, expected, value })
  }

  async attach(i: number, id: string, addresses: readonly string[]): Promise<void> {
    const attachment: Attachment = {
      id,
      network: 'twill',
      containerId: id,
      ifName: 'eth0',
      netns: this.kernel.addNamespace(`/run/netns/${id}`),
      netnsCookie: null,
      hostInterface: `twl${String(i).padStart(12, '0')}`,
      podMac: `02:00:00:00:01:0${i}`,
      mtu: 1450,
      addresses: addresses.map(held),
      pod: null,
      boot: BOOT,
      begunBoottimeMs: 1,
      since: 1,
      state: 'attached',
    }
    const elements = endpointElements({ ...attachment, podMac: attachment.podMac as string })
    await this.kernel.attachPod(endpointSpec(attachment, NODE), elements)
    this.journal.push({ t: 'attach', attachment })
  }

  /** What the daemon ends with. */
  async start(error: Error = taken): Promise<Error> {
    const { attachments, leases } = replayJournal(this.journal)
    const { journaledUid, hardware, kernel, store } = this
    const append = async (record: JournalRecord) => {
      if (this.diskFull) throw new TwillError('journal.write-failed', 'no space left')
      this.journal.push(record)
    }
    try {
      return await endWithoutName(
        error,
        { journaledUid, hardware, boot: BOOT, attachments, leases },
        { kernel, store, journal: { append }, log: silentLog, elements: endpointElements },
      )
    } catch (thrown) {
      return thrown as Error
    }
  }

  /** Ids of pods that are on the network, from both ends. */
  attached(): string[] {
    const links = [...this.kernel.node.links.values()].filter(({ up, group }) => up && group !== REAP_GROUP)
    const ids = links.flatMap(({ alias }) => alias?.match(/^twill:pod:(.*)/)?.[1] ?? [])
    return ids.filter(id => this.kernel.namespace(`/run/netns/${id}`)?.links.has('eth0'))
  }

  journaled(): string[] {
    return [...replayJournal(this.journal).attachments.keys()]
  }
}

const PODS = {
  stays: ['10.0.0.1'],
  given: ['10.0.0.33'],
  freed: ['10.0.0.65'],
  gone: ['10.9.0.1'],
  half: ['10.0.0.2', 'fd00::2'],
}

test('rule 15: pods whose addresses are in no part of ours are cut off, and named; a fenced part is still ours', async () => {
  const machine = await Machine.withPods(PODS)
  const error = await machine.start()
  assert.is(isTwillError(error) && error.code, 'node.name-taken')
  assert.equal(machine.attached(), ['stays'])
  assert.equal(machine.journaled(), ['stays'])
  assert.match(
    error.message,
    'node name n is taken. Pods here with addresses that are no longer of this machine: 4; cut off: 10.0.0.33, 10.0.0.65, 10.9.0.1, 10.0.0.2 and fd00::2',
  )
  assert.equal(machine.kernel.flushed, ['10.0.0.33', '10.0.0.65', '10.9.0.1', '10.0.0.2', 'fd00::2'])
  const elements = machine.kernel.elements().map(({ element }) => element)
  assert.equal(elements, ['"twl000000000000" . 10.0.0.1 . 02:00:00:00:01:00', '"twl000000000000" . 10.0.0.1'])
  machine.put('slots/p/10.0.0.0-26', slot(['10.0.0.0/26', 'other']))
  assert.match((await machine.start()).message, 'cut off: 10.0.0.1')
  assert.equal(machine.attached(), [])
  assert.match((await machine.start()).message, 'no longer of this machine: none')
})

test('rule 15: the kernel says who lives here when the journal is lost, the hardware which UID was ours', async () => {
  const machine = await Machine.withPods(PODS)
  machine.journal = []
  machine.journaledUid = null
  await machine.start()
  assert.equal([machine.attached(), machine.journal], [['stays'], []])
  const elements = machine.kernel.elements().map(({ element }) => element)
  assert.ok(
    elements.every(element => element.startsWith('"twl000000000000"')),
    elements.join(),
  )
  machine.hardware = THEIRS
  await machine.start()
  assert.equal(machine.attached(), [])
})

test('rule 15: what a link shows no longer, the journal knows; of one that nobody knows nothing is lost', async () => {
  const machine = await Machine.withPods({ given: ['10.0.0.33'], bare: ['10.0.0.34'] })
  machine.kernel.node.routes = []
  machine.kernel.node.neighbours = []
  machine.journal = machine.journal.filter(
    record => record.t !== 'attach' || record.attachment.id === 'given',
  )
  await machine.start()
  assert.equal(machine.attached(), ['bare'])
})

test('rule 14: a copy has nothing of the UID that other hardware lives under', async () => {
  const machine = await Machine.withPods({ stays: ['10.0.0.1'] })
  machine.hardware = 'uuid=;macs=02:00:00:00:00:03'
  await machine.start()
  assert.equal(machine.attached(), [])
  const nameless = await Machine.withPods({ stays: ['10.0.0.1'], given: ['10.0.0.33'] })
  nameless.put('liveness/old', null)
  await nameless.start()
  assert.equal(
    nameless.attached(),
    ['stays'],
    'parts that bear our UID are ours, whatever became of its record',
  )
})

test('what cannot be read is not judged: nothing is cut off, and the message says so', async () => {
  const restored = await Machine.withPods(PODS)
  restored.put(ADDRESS_SPACE_KEY, { ...emptySpace, restored: { id: 'm', allowanceMs: 1 } })
  const away = await Machine.withPods(PODS)
  away.store.setUnavailable(true)
  const blind = await Machine.withPods(PODS)
  blind.kernel.failNext('readRoutes', new TwillError('kernel.failed', 'dump routes: EBUSY'))
  for (const machine of [restored, away, blind]) {
    const { message } = await machine.start()
    assert.match(message, 'node name n is taken. No pod is cut off: it cannot be told which')
    assert.equal(machine.attached(), Object.keys(PODS))
  }
  const damaged = await Machine.withPods(PODS)
  damaged.put('slots/p/10.0.0.0-26', '{"v":1,')
  damaged.put('slots/p/no-slot', '{}')
  await damaged.start()
  assert.equal(damaged.attached(), ['stays', 'given'], 'those in the slot that cannot be read')
})

test('a start that ends for another reason cuts nobody off', async () => {
  const machine = await Machine.withPods(PODS)
  const other = new TwillError('store.foreign-cluster', 'another cluster')
  assert.is(await machine.start(other), other)
  assert.equal(machine.attached(), Object.keys(PODS))
})

test('what fails of one pod keeps nobody else, and the next start does what is left', async () => {
  const refused = () => new TwillError('kernel.failed', 'no')
  const machine = await Machine.withPods(PODS)
  machine.kernel.failNext('detachPod', refused())
  machine.kernel.failNext('reapLinks', refused())
  const { message } = await machine.start()
  assert.match(message, 'could not be cut off yet: 10.0.0.33')
  assert.equal(machine.attached(), ['stays', 'given'])
  assert.equal(machine.kernel.flushed, [])
  const states = [...replayJournal(machine.journal).attachments.values()].map(({ state }) => state)
  assert.equal(
    states,
    ['attached', 'detaching', 'detaching', 'detaching', 'detaching'],
    'none is built again',
  )
  await machine.start()
  assert.equal([machine.attached(), machine.journaled()], [['stays'], ['stays']])
  assert.is([...machine.kernel.node.links.values()].filter(({ group }) => group === REAP_GROUP).length, 0)
  assert.equal(machine.kernel.flushed.sort(), ['10.0.0.2', '10.0.0.33', '10.0.0.65', '10.9.0.1', 'fd00::2'])

  const forgetful = await Machine.withPods(PODS)
  forgetful.kernel.failNext('reapLinks', refused())
  await forgetful.start()
  forgetful.journal = []
  await forgetful.start()
  assert.is(forgetful.kernel.node.links.size, 2, 'the loopback device and one pod')
})

test('a full disk keeps no lost pod on the network', async () => {
  const machine = await Machine.withPods(PODS)
  machine.diskFull = true
  assert.match((await machine.start()).message, 'cut off: 10.0.0.33')
  assert.equal(machine.attached(), ['stays'])
})

test('rule 15: leases of other plugins end when their address is lost; those of an earlier boot are dead', async () => {
  const machine = await Machine.withPods({})
  const lease = (id: string, address: string, boot = BOOT): Lease => ({
    id,
    network: 'lan',
    containerId: id,
    ifName: 'net1',
    netns: { path: '', dev: null, ino: null },
    netnsCookie: null,
    addresses: [held(address)],
    pod: null,
    boot,
    begunBoottimeMs: 1,
    since: 1,
  })
  for (const each of [lease('a', '10.0.0.1'), lease('b', '10.0.0.33'), lease('c', '10.0.0.34', 'boot:0')])
    machine.journal.push({ t: 'lease', lease: each })
  const { message } = await machine.start()
  assert.match(message, 'delete the containers that have 10.0.0.33 by twill-ipam')
  assert.equal([...replayJournal(machine.journal).leases.keys()], ['a', 'c'])
})

test.run()
