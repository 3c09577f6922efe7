/** Leases of twill-ipam against recording stand-ins: order, repetition, and what a failure leaves. */
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { leaseId } from '../../../cni-bin/attachment-id.ts'
import type { CheckRequest } from '../../../cni-bin/request.ts'
import { NO_DNS } from '../../../cni-bin/result.ts'
import { writeSpooled } from '../../../cni-bin/spool.ts'
import { addLease, checkLease, leaseStatus } from '../../../daemon/attach/lease-verbs.ts'
import { type LeaseRequest, Leases } from '../../../daemon/attach/leases.ts'
import { Spool } from '../../../daemon/attach/spool.ts'
import { type JournalRecord, type Lease, replayJournal } from '../../../daemon/journal/records.ts'
import type { AllocationRequest, HeldAddress, Holder, RoomRequest } from '../../../ipam/ipam.ts'
import type { LinkAddress, NetnsRef } from '../../../kernel/kernel.ts'
import { formatIp } from '../../../lib/address.ts'
import { isTwillError, TwillError } from '../../../lib/errors.ts'
import { silentLog } from '../../../lib/log.ts'
import { NO_POOLS } from '../../../lib/pool-annotations.ts'
import { ManualClock, settle } from '../../fixtures/manual-clock.ts'

const request: LeaseRequest = {
  network: 'lan',
  containerId: 'c1',
  ifName: 'net1',
  netns: { path: '/run/netns/x', dev: '4', ino: '7' },
  pod: null,
  families: [],
  pools: ['lan'],
  podPools: NO_POOLS,
  addresses: [],
}
const id = leaseId('lan', 'c1', 'net1')
const part = { poolUid: 'p', slot: '10.50.0.0/26', cidr: '10.50.0.0/27', generation: 1, holders: [id] }
const holder: Holder = {
  id,
  kind: 'ipam',
  network: 'lan',
  containerId: 'c1',
  ifName: 'net1',
  pod: null,
  since: 1,
}
const here = () => new AbortController().signal

function bed(found: Lease[] = []) {
  const said: string[] = []
  const records: JournalRecord[] = []
  const held = new Map<string, HeldAddress[]>(found.map(lease => [lease.id, lease.addresses]))
  /** What is where: cookies by path, and addresses on net1 by path. */
  const world = {
    cookies: new Map([['/run/netns/x', '100']]),
    configured: new Map<string, string[]>(),
    diskFull: false,
    journaling: () => {},
    connected: true,
  }
  let next = 5
  const clock = new ManualClock()
  const kernel = {
    async netnsCookie({ path }: NetnsRef) {
      const cookie = world.cookies.get(path)
      if (cookie === undefined) throw new TwillError('kernel.netns-gone', `${path} is gone`)
      return cookie
    },
    async inspectPod(netns: NetnsRef) {
      const addresses = (world.configured.get(netns.path) ?? []).map(address => ({ address }) as LinkAddress)
      const pod = addresses.length === 0 ? null : { addresses }
      return { netnsCookie: await kernel.netnsCookie(netns), pod } as never
    },
  }
  const ipam = {
    async allocate({ holder, addresses: wished = [], podPools }: AllocationRequest) {
      said.push(`allocate ${holder.kind}`)
      if (podPools !== NO_POOLS) said.push(`of ${podPools?.[4]}`)
      const [named] = wished
      const address = named === undefined ? `10.50.0.${next++}` : formatIp(named)
      const addresses = [{ family: 4 as const, address, poolUid: 'p', slot: '10.50.0.0/26', generation: 1 }]
      held.set(holder.id, addresses)
      return addresses
    },
    recorded: () => said.push('recorded'),
    release(holder: string) {
      said.push('release')
      held.delete(holder)
    },
    subnetOf: (poolUid: string) => (poolUid === 'p' ? { prefix: 16, gateway: '10.50.0.1' } : null),
    heldBy: (holder: string) => held.get(holder) ?? [],
    room: ({ use, pools }: RoomRequest = { use: 'pod', pools: [], families: [] }) =>
      use === 'ipam' && pools[0] === 'lan' ? { ok: true as const } : { ok: false as const, reason: 'full' },
  }
  const journal = {
    async append(record: JournalRecord) {
      if (record.t === 'lease') world.journaling()
      if (world.diskFull) throw new TwillError('journal.write-failed', 'ENOSPC', {}, { retryable: true })
      records.push(JSON.parse(JSON.stringify(record)))
      said.push(`journal ${record.t}`)
    },
  }
  const leases = new Leases(
    { boot: 'boot:1', leases: new Map(found.map(lease => [lease.id, lease])) },
    { kernel, ipam, journal, clock, log: silentLog },
  )
  return { leases, said, world, held, clock, kernel, ipam, journaled: () => replayJournal(records).leases }
}

const refusal = (promise: Promise<unknown>): Promise<string> =>
  promise.then(
    () => 'done',
    error => (isTwillError(error) ? error.code : `${(error as { code?: number }).code}`),
  )

test('CNI-120: address, journal, ledger; a restart knows the lease', async () => {
  const { leases, said, journaled } = bed()
  const { lease, isNew } = await leases.add(request, here())
  assert.equal(said, ['allocate ipam', 'journal lease', 'recorded'])
  assert.is(isNew, true)
  assert.equal(journaled().get(id), lease)
  assert.equal([lease.netnsCookie, lease.boot], ['100', 'boot:1'])
})

test('CNI-242: DEL ends it in the journal first, asks no namespace, and is a success again and for nobody', async () => {
  const { leases, said, world, journaled } = bed()
  await leases.add(request, here())
  world.cookies.clear()
  said.length = 0
  await leases.del(request)
  assert.equal(said, ['journal lease-ended', 'release'])
  assert.is(journaled().size, 0)
  await leases.del(request)
  await leases.del({ ...request, containerId: 'nobody' })
  assert.is(said.length, 2)
})

test('CNI-245: the same namespace again is given the same, without a second allocation', async () => {
  const { leases, said } = bed()
  const first = await leases.add(request, here())
  const again = await leases.add(request, here())
  assert.equal([again.lease, again.isNew], [first.lease, false])
  assert.is(said.filter(each => each === 'allocate ipam').length, 1)
})

test('CNI-116: an attachment that has its address is refused, so that nobody deletes it', async () => {
  const { leases, world } = bed()
  const { lease } = await leases.add(request, here())
  world.configured.set('/run/netns/x', [lease.addresses[0]!.address])
  assert.is(await refusal(leases.add(request, here())), 'kernel.interface-exists')
  assert.is(leases.get(request), lease)
})

test('CNI-245: another namespace is refused while the first lives, and given a fresh address when it is gone', async () => {
  const { leases, world, held } = bed()
  const { lease } = await leases.add(request, here())
  const elsewhere = { ...request, netns: { path: '/run/netns/y', dev: '4', ino: '8' } }
  world.cookies.set('/run/netns/y', '200')
  assert.is(await refusal(leases.add(elsewhere, here())), 'kernel.interface-exists')
  // The path now means another namespace.
  world.cookies.set('/run/netns/x', '300')
  const next = await leases.add(elsewhere, here())
  assert.is.not(next.lease.addresses[0]?.address, lease.addresses[0]?.address)
  assert.equal([next.isNew, next.lease.netnsCookie, held.size], [true, '200', 1])
  world.cookies.delete('/run/netns/y')
  const last = await leases.add(request, here())
  assert.equal([last.isNew, last.lease.netnsCookie, held.size], [true, '300', 1])
})

test('CNI-191: another interface, container or network is another lease', async () => {
  const { leases } = bed()
  const keys = [
    request,
    { ...request, ifName: 'net2' },
    { ...request, containerId: 'c2' },
    { ...request, network: 'm' },
  ]
  const all = await Promise.all(keys.map(each => leases.add(each, here())))
  assert.is(new Set(all.map(({ lease }) => lease.addresses[0]?.address)).size, 4)
})

test('a client that went away: a new lease ends, one that stood stays', async () => {
  const { leases, held, said, world } = bed()
  const gone = new AbortController()
  world.journaling = () => gone.abort()
  assert.is(await refusal(leases.add(request, gone.signal)), 'cancelled')
  assert.equal(said, ['allocate ipam', 'journal lease', 'recorded', 'journal lease-ended', 'release'])
  said.length = 0
  assert.is(await refusal(leases.add(request, gone.signal)), 'cancelled')
  assert.equal([said, held.size], [[], 0])
  await leases.add(request, here())
  const again = await leases.add(request, gone.signal)
  assert.is(again.isNew, false)
  assert.is(held.size, 1)
})

test('a full disk: ADD keeps nothing; DEL succeeds, and the address is held until the journal can say so', async () => {
  const { leases, world, held, clock, journaled } = bed()
  world.diskFull = true
  assert.is(await refusal(leases.add(request, here())), 'journal.write-failed')
  assert.is(held.size, 0)
  world.diskFull = false
  await leases.add(request, here())
  world.diskFull = true
  await leases.del(request)
  assert.equal([leases.get(request), leases.all().length, held.size], [undefined, 0, 1])
  assert.is(await refusal(leases.add(request, here())), 'journal.write-failed')
  await clock.advance(5_000)
  assert.is(held.size, 1)
  world.diskFull = false
  await clock.advance(5_000)
  await settle()
  assert.equal([held.size, journaled().size], [0, 0])
  await leases.settled()
})

test('an end that could not be journaled is left to the next start when this daemon ends', async () => {
  const { leases, world, said, clock } = bed()
  await leases.add(request, here())
  world.diskFull = true
  await leases.del(request)
  await leases.settled()
  world.diskFull = false
  said.length = 0
  await clock.advance(60_000)
  assert.equal(said, [])
})

test('after a restart: leases of this boot stay, those of an earlier one are dead (rule 17)', async () => {
  const first = bed()
  const { lease } = await first.leases.add(request, here())
  const dead = { ...lease, id: leaseId('lan', 'c0', 'net1'), containerId: 'c0', boot: 'boot:0' }
  const { leases, held, said } = bed([lease, dead])
  assert.equal(await leases.recover(), { kept: 1, dead: 1 })
  assert.equal([[...held.keys()], said], [[id], ['journal lease-ended', 'release']])
})

test('rule 17: a lease that only the ledger knows is kept, bound by the next ADD, and ended by DEL', async () => {
  const { leases, world, journaled } = bed()
  const address = { family: 4 as const, address: '10.50.0.9', poolUid: 'p', slot: 's', generation: 1 }
  await leases.adopt(holder, [address])
  await leases.adopt(holder, [{ ...address, address: '10.50.0.10' }])
  world.configured.set('/run/netns/x', ['10.50.0.9'])
  assert.is(await refusal(leases.add(request, here())), 'kernel.interface-exists')
  world.configured.clear()
  const { lease, isNew } = await leases.add(request, here())
  assert.equal([lease.addresses, lease.netnsCookie, isNew], [[address], '100', false])
  assert.is(journaled().get(id)?.netnsCookie, '100')
  await leases.del(request, 1)
  assert.is(journaled().size, 0)
})

test('rule 15: a lost address ends the lease', async () => {
  const { leases, held } = bed()
  await leases.add(request, here())
  assert.equal([leases.lose('somebody', part), leases.lose(id, part)], [false, true])
  await leases.settled()
  assert.equal([leases.all(), held.size], [[], 0])
})

test('rule 15: who still has an address that was lost is told, until its DEL or a new ADD', async () => {
  const { leases } = bed()
  const lose = async () => {
    await leases.add(request, here())
    assert.equal(leases.problems(), [])
    leases.lose(id, part)
    await leases.settled()
    assert.is(leases.problems().length, 1)
  }
  await lose()
  assert.is(leases.problems()[0]?.type, 'LeaseLost')
  assert.match(
    leases.problems()[0]?.message ?? '',
    /^net1 of .*c1.* on network lan has 10\.50\..* no longer of/,
  )
  await leases.del(request, 0)
  assert.is(leases.problems().length, 1, 'a DEL of an attachment before it')
  await leases.del(request)
  assert.equal(leases.problems(), [])
  await lose()
  await lose()
})

test('rule 15: a loss that comes late ends no newer lease of the same attachment', async () => {
  const { leases } = bed()
  await leases.add(request, here())
  leases.lose(id, { ...part, generation: 0 })
  leases.lose(id, { ...part, cidr: '10.50.0.32/27' })
  await leases.settled()
  assert.is(leases.all().length, 1)
})

test('rule 15: an address that is lost on its way into the journal', async () => {
  const { leases, held, world } = bed()
  world.journaling = () => assert.is(leases.lose(id, part), true)
  await leases.add(request, here())
  await leases.settled()
  assert.equal([leases.all(), held.size], [[], 0])
})

test('an ADD whose answer nobody took is taken back, unless a later one was answered with the same or made another', async () => {
  const { leases, held } = bed()
  const first = (await leases.add(request, here())).lease
  const again = await leases.add(request, here())
  await leases.takeBack(first)
  assert.equal([again.isNew, leases.get(request)], [false, again.lease])
  const deleted = leases.del(request)
  const second = leases.add(request, here())
  await Promise.all([deleted, leases.takeBack(again.lease), second])
  assert.is(leases.all().length, 1)
  await leases.takeBack((await second).lease)
  assert.equal([leases.all(), held.size], [[], 0])
})

test('CNI-167: GC leaves alone what is so young that its ADD may be under way', async () => {
  const { leases, clock } = bed()
  await clock.advance(60_000)
  await leases.add(request, here())
  await settle()
  assert.equal([...leases.busy()], [id])
  await clock.advance(10_001)
  assert.equal([...leases.busy()], [])
})

test('CNI-135: a DEL that was filed as twill-ipam ends the lease, and only one begun before it', async () => {
  const { leases, clock } = bed()
  await clock.advance(1000)
  await leases.add(request, here())
  for (const boottimeMs of [1, clock.boottimeMs() + 1]) {
    const folder = mkdtempSync(join(tmpdir(), 'twill-lease-'))
    const environment = new Map([
      ['CNI_COMMAND', 'DEL'],
      ['CNI_CONTAINERID', 'c1'],
      ['CNI_IFNAME', 'net1'],
    ])
    const stdin = Buffer.from('{"cniVersion":"1.0.0","name":"lan"}')
    const filed = { program: 'twill-ipam', environment, stdin, netnsDev: null, netnsIno: null }
    writeSpooled(folder, 'x', { boot: 'boot:1', boottimeMs, realtimeMs: 0, request: filed })
    const attachments = { busy: () => new Set<string>(), del: () => Promise.reject(new Error('not ours')) }
    const spool = new Spool(
      { folder, boot: 'boot:1' },
      { attachments, leases, registry: { all: () => [] }, clock, log: silentLog },
    )
    await spool.start()
    spool.stop()
    assert.equal(readdirSync(folder), [])
    rmSync(folder, { recursive: true })
    assert.is(leases.all().length, boottimeMs === 1 ? 1 : 0)
  }
})

// ---------------------------------------------------------------- the verbs

const common = {
  plugin: 'twill-ipam',
  cniVersion: '1.1.0',
  ...request,
  twill: { pools: ['lan'], families: [] },
} as const
const wishes = { addresses: [], pools: NO_POOLS, mac: null, dns: null, labels: new Map() }
const route = { dst: '0.0.0.0/0', gw: null, mtu: null, advmss: null, priority: 7, table: null, scope: null }
const addRequest = {
  command: 'ADD',
  ...common,
  wishes,
  routes: [route],
  mtu: null,
  dns: NO_DNS,
  prevResult: null,
} as const

test('CNI-240: prefix and gateway of the subnet, routes as configured, no interface', async () => {
  const all = bed()
  const made: (() => Promise<void>)[] = []
  const result = await addLease(all, addRequest, here(), takeBack => made.push(takeBack))
  assert.equal(result, {
    interfaces: [],
    ips: [{ address: '10.50.0.5/16', gateway: '10.50.0.1', interface: null }],
    routes: [route],
    dns: NO_DNS,
  })
  await made[0]?.()
  assert.is(all.held.size, 0, 'it can be taken back')
  await all.leases.add(request, here())
  await addLease(all, addRequest, here(), takeBack => made.push(takeBack))
  assert.is(made.length, 1, 'what an earlier ADD was given cannot')
})

test('CNI-247: an address that is asked for is asked for', async () => {
  const named = { ...addRequest, wishes: { ...wishes, addresses: ['10.50.0.77'] } }
  const result = await addLease(bed(), named, here(), () => undefined)
  assert.is(result.ips[0]?.address, '10.50.0.77/16')
})

test('pools of the annotations reach the address management', async () => {
  const { said, ...all } = bed()
  const wished = { ...addRequest, wishes: { ...wishes, pools: { 4: ['lan2'], 6: [] } } }
  await addLease(all, wished, here(), () => undefined)
  assert.ok(said.includes('of lan2'), said.join())
})

test('CNI-243: CHECK tells a reservation that is whole from one that is not there, elsewhere, lost or not in prevResult', async () => {
  const all = bed()
  const result = (address: string) => ({
    interfaces: [],
    ips: [{ address, gateway: null, interface: null }],
    routes: [],
    dns: NO_DNS,
  })
  const check = (address = '10.50.0.5/16') =>
    refusal(checkLease(all, { ...addRequest, command: 'CHECK', prevResult: result(address) } as CheckRequest))
  assert.is(await check(), '3')
  await all.leases.add(request, here())
  assert.is(await check(), 'done')
  assert.is(await check('10.50.0.6/16'), '100')
  all.world.cookies.set('/run/netns/x', '101')
  assert.is(await check(), '100')
  all.world.cookies.set('/run/netns/x', '100')
  all.held.clear()
  assert.is(await check(), '100')
})

test('CNI-243: an address in another spelling is the same address', async () => {
  const all = bed()
  const address = { family: 6 as const, address: 'fd50::9', poolUid: 'p', slot: 's', generation: 1 }
  await all.leases.adopt(holder, [address])
  all.held.set(id, [address])
  const ips = [{ address: 'FD50:0::9/112', gateway: null, interface: null }]
  const prevResult = { interfaces: [], ips, routes: [], dns: NO_DNS }
  await checkLease(all, { ...addRequest, command: 'CHECK', prevResult } as CheckRequest)
})

test('an ADD whose pool is gone meanwhile says so', async () => {
  const all = bed()
  all.ipam.subnetOf = () => null
  assert.is(await refusal(addLease(all, addRequest, here(), () => undefined)), 'ipam.no-pool')
})

test('CNI-243: STATUS is about the pools of the configuration', () => {
  const status = { command: 'STATUS', ...common } as const
  leaseStatus(bed(), status)
  assert.throws(
    () => leaseStatus(bed(), { ...status, twill: { pools: ['other'], families: [] } }),
    (error: { code: number; details: string }) => error.code === 50 && error.details === 'full',
  )
})

test.run()
