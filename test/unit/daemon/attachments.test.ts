/**
 * The order of ADD and DEL against recording stand-ins: what is written before what, and what a failure leaves.
 * The real kernel and the crash tests prove the same from outside.
 */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { attachmentId } from '../../../cni-bin/attachment-id.ts'
import { Attachments, type AttachRequest } from '../../../daemon/attach/attachments.ts'
import { Registry } from '../../../daemon/attach/registry.ts'
import type { Attachment, JournalRecord } from '../../../daemon/journal/records.ts'
import type { PodDetachSpec, PodEndpointSpec } from '../../../kernel/kernel.ts'
import { parseIp } from '../../../lib/address.ts'
import { systemClock } from '../../../lib/clock.ts'
import { isTwillError, TwillError } from '../../../lib/errors.ts'
import { silentLog } from '../../../lib/log.ts'
import { NO_POOLS } from '../../../lib/pool-annotations.ts'
import { systemRandom } from '../../../lib/random.ts'

const request: AttachRequest = {
  network: 'twill',
  containerId: 'c1',
  ifName: 'eth0',
  netns: { path: '/run/netns/x', dev: '4', ino: '7' },
  pod: null,
  mac: null,
  mtu: null,
  families: [],
  pools: [],
  podPools: NO_POOLS,
  addresses: [],
}
const id = attachmentId('twill', 'c1', 'eth0')
const here = () => new AbortController().signal

interface Faults {
  journal?: (record: JournalRecord) => void
  attach?: (spec: PodEndpointSpec) => void
  detach?: () => void
  gate?: () => Promise<void>
}

function bed(faults: Faults = {}, attachments: Attachment[] = [], cookie = 'cookie-1') {
  const said: string[] = []
  const held = new Set<string>()
  const journal = {
    async append(record: JournalRecord) {
      faults.journal?.(record)
      said.push(`journal ${record.t}`)
    },
  }
  const registry = new Registry({ attachments: new Map(attachments.map(a => [a.id, a])) }, { journal })
  const service = new Attachments(
    { boot: 'boot:1', reapDelayMs: 1, detachRetryMs: 20 },
    {
      registry,
      clock: systemClock,
      random: systemRandom,
      log: silentLog,
      node: { routeSource: () => null, podMtu: () => 1450, gatewayOnHostEnd: false },
      elements: ({ podMac }) => [{ set: 'pods4', element: podMac }],
      gate: faults.gate ?? (async () => undefined),
      over: () => undefined,
      ipam: {
        async allocate({ holder }) {
          said.push('allocate')
          held.add(holder.id)
          return [{ family: 4, address: '10.0.0.1', poolUid: 'p', slot: '10.0.0.0/26', generation: 1 }]
        },
        recorded: () => said.push('recorded'),
        release(holder) {
          said.push('release')
          held.delete(holder)
        },
      },
      kernel: {
        async attachPod(spec) {
          said.push('kernel attach')
          faults.attach?.(spec)
          return { hostIndex: 5, podIndex: 2, podMac: spec.podMac as string, netnsCookie: cookie }
        },
        async detachPod(_: PodDetachSpec) {
          said.push('kernel detach')
          faults.detach?.()
        },
        async reapLinks(addresses) {
          said.push(`reap ${addresses}`)
          return { deleted: [], foreign: [] }
        },
        async changeElements() {
          said.push('elements')
        },
        netnsCookie: async () => cookie,
      },
    },
  )
  return { service, registry, said, held }
}

const failure = (promise: Promise<unknown>): Promise<Error> =>
  promise.then(
    () => {
      throw new Error('succeeded')
    },
    (error: Error) => error,
  )

test('ADD: address, intent, kernel, done, then the ledger (CNI-120)', async () => {
  const { service, said, registry } = bed()
  const attachment = await service.add(request, here())
  assert.equal(said, ['allocate', 'journal attach', 'kernel attach', 'journal attached', 'recorded'])
  assert.is(attachment.state, 'attached')
  assert.is(attachment.netnsCookie, 'cookie-1')
  assert.is(registry.get(id), attachment)
})

test('DEL: journal, kernel, answer; flows, link, the end and then the address follow', async () => {
  const { service, said, held, registry } = bed()
  await service.add(request, here())
  said.length = 0
  await service.del(request)
  assert.equal(said, ['journal detach', 'kernel detach'])
  assert.is(held.size, 1, 'the address is not free before its link is gone')
  await service.settled()
  assert.equal(said, ['journal detach', 'kernel detach', 'reap 10.0.0.1', 'journal gone', 'release'])
  assert.is(held.size, 0)
  assert.is(registry.get(id), undefined)
})

test('an address asked for by name, of a pod that is being deleted: its link goes first', async () => {
  const { service, said } = bed()
  await service.add(request, here())
  await service.del(request)
  said.length = 0
  await service.add({ ...request, containerId: 'c2', addresses: [parseIp('10.0.0.1')] }, here())
  assert.equal(said.slice(0, 4), ['reap 10.0.0.1', 'journal gone', 'release', 'allocate'])
})

test('DEL of an unknown container succeeds and does nothing (CNI-138); repeated DEL too (CNI-131)', async () => {
  const { service, said } = bed()
  await service.del(request)
  assert.equal(said, [])
  await service.add(request, here())
  await Promise.all([service.del(request), service.del(request)])
  await service.settled()
  await service.del(request)
  assert.is(said.filter(each => each === 'kernel detach').length, 1)
})

test('a kernel failure in ADD is undone completely (CNI-009)', async () => {
  const { service, said, held, registry } = bed({
    attach() {
      throw new TwillError('kernel.failed', 'no')
    },
  })
  const error = await failure(service.add(request, here()))
  assert.ok(isTwillError(error, 'kernel.failed'))
  await service.settled()
  assert.is(held.size, 0)
  assert.is(registry.get(id), undefined)
  assert.equal(said.slice(-2), ['journal gone', 'release'])
})

test('a journal that refuses the intent leaves nothing, and the kernel is not touched', async () => {
  const { service, said, held } = bed({
    journal() {
      throw new TwillError('journal.write-failed', 'disk full')
    },
  })
  assert.ok(isTwillError(await failure(service.add(request, here())), 'journal.write-failed'))
  assert.is(held.size, 0)
  assert.not.ok(said.includes('kernel attach'))
})

test('DEL works on a full disk', async () => {
  let full = false
  const { service, said } = bed({
    journal(record) {
      if (full && record.t === 'detach') throw new TwillError('journal.write-failed', 'disk full')
    },
  })
  await service.add(request, here())
  full = true
  await service.del(request)
  assert.ok(said.includes('kernel detach'))
})

test('an end that a full disk does not take: the address is held until the journal has it', async () => {
  let full = false
  const { service, said, held, registry } = bed({
    journal(record) {
      if (full && record.t === 'gone') throw new TwillError('journal.write-failed', 'disk full')
    },
  })
  await service.add(request, here())
  full = true
  await service.del(request)
  await eventually('the end was tried twice', () => said.filter(each => each.startsWith('reap')).length > 1)
  const meanwhile = [held.size, registry.get(id)?.state]
  full = false
  await service.settled()
  assert.equal(meanwhile, [1, 'detaching'])
  assert.equal([held.size, registry.get(id)], [0, undefined])
})

test('a daemon that ends does not wait for a disk that stays full', async () => {
  let full = true
  const { service, held } = bed({
    journal(record) {
      if (full && record.t === 'gone') throw new TwillError('journal.write-failed', 'disk full')
    },
  })
  await service.add(request, here())
  await service.del(request)
  let isSettled = false
  const settled = service.settled().then(() => {
    isSettled = true
  })
  await eventually('an end', () => isSettled).finally(() => {
    full = false
  })
  assert.equal([...held], [id])
  await settled
  await service.settled()
  assert.is(held.size, 0)
})

test('a second ADD without DEL is refused and the first keeps its address (CNI-116)', async () => {
  const { service, held, said } = bed()
  await service.add(request, here())
  said.length = 0
  assert.ok(isTwillError(await failure(service.add(request, here())), 'kernel.interface-exists'))
  assert.equal(said, [])
  assert.is(held.size, 1)
})

test('a container restarted under its id, in another namespace, without DEL: the old attachment goes first', async () => {
  const stale: Attachment = {
    ...request,
    id,
    netnsCookie: 'cookie-0',
    hostInterface: 'twl000000000001',
    podMac: '02:00:00:00:00:01',
    mtu: 1450,
    addresses: [],
    boot: 'boot:1',
    begunBoottimeMs: 0,
    since: 0,
    state: 'attached',
  }
  const { service, said } = bed({}, [stale])
  await service.add(request, here())
  assert.equal(said.slice(0, 5), ['journal detach', 'kernel detach', 'reap ', 'journal gone', 'release'])
  assert.is(said.at(-1), 'recorded')
})

test('DEL, then ADD of the same container: waits for the link, succeeds', async () => {
  const { service, registry } = bed()
  await service.add(request, here())
  await service.del(request)
  await service.add(request, here())
  assert.is(registry.get(id)?.state, 'attached')
})

test('a client that went away gets its ADD undone', async () => {
  const gone = new AbortController()
  const { service, held, registry } = bed({ attach: () => gone.abort() })
  assert.ok(isTwillError(await failure(service.add(request, gone.signal)), 'cancelled'))
  await service.settled()
  assert.is(held.size, 0)
  assert.is(registry.get(id), undefined)
})

test('operations on one attachment are serial, on different ones parallel (CNI-010)', async () => {
  let open = () => {}
  const gate = new Promise<void>(resolve => {
    open = resolve
  })
  let first = true
  const { service, registry } = bed({
    gate: () => {
      if (!first) return Promise.resolve()
      first = false
      return gate
    },
  })
  const slow = service.add(request, here())
  const deleted = service.del(request)
  await service.add({ ...request, containerId: 'c2' }, here())
  assert.is(registry.all().length, 1, 'the other one overtook')
  open()
  await slow
  await deleted
  await service.settled()
  assert.is(registry.get(id), undefined, 'the DEL came after its ADD')
})

test('a spooled DEL touches only attachments begun before it', async () => {
  const { service, registry } = bed()
  await service.add(request, here())
  await service.del(request, 0)
  assert.is(registry.get(id)?.state, 'attached')
  await service.del(request, systemClock.boottimeMs() + 1000)
  assert.is(registry.get(id)?.state, 'detaching')
})

test('recovery: halves are undone or finished, the dead of an earlier boot forgotten, the living kept', async () => {
  const make = (name: string, state: Attachment['state'], boot: string): Attachment => ({
    ...request,
    id: name,
    netnsCookie: null,
    hostInterface: `twl-${name}`,
    podMac: null,
    mtu: 1450,
    addresses: [],
    boot,
    begunBoottimeMs: 0,
    since: 0,
    state,
  })
  const all = [
    make('half', 'attaching', 'boot:1'),
    make('going', 'detaching', 'boot:1'),
    make('dead', 'attached', 'boot:0'),
    make('living', 'attached', 'boot:1'),
  ]
  const { service, registry } = bed({}, all)
  assert.equal(await service.recover(), { kept: 1, undone: 2, dead: 1 })
  await service.settled()
  assert.equal(
    registry.all().map(attachment => attachment.id),
    ['living'],
  )
})

const kernelSaysNo = () => {
  throw new TwillError('kernel.failed', 'no')
}

test('a DEL that failed is not taken for done: the next one does it', async () => {
  const faults: Faults = { detach: kernelSaysNo }
  const { service, held, registry } = bed(faults)
  await service.add(request, here())
  await failure(service.del(request))
  await failure(service.del(request))
  delete faults.detach
  await service.del(request)
  await service.settled()
  assert.is(held.size, 0)
  assert.is(registry.get(id), undefined)
})

test('an ADD after a DEL that failed begins with it, and takes no address of it', async () => {
  const faults: Faults = { detach: kernelSaysNo }
  const { service, said } = bed(faults)
  await service.add(request, here())
  await failure(service.del(request))
  delete faults.detach
  said.length = 0
  await service.add(request, here())
  assert.equal(said.slice(0, 3), ['journal detach', 'kernel detach', 'reap 10.0.0.1'])
})

test('an ADD whose answer nobody took is taken back; a newer one of the same container stays', async () => {
  const { service, registry, held } = bed()
  const first = await service.add(request, here())
  // The runtime gave up, and began anew before this daemon learned of it.
  const deleted = service.del(request)
  const again = service.add(request, here())
  const takenBack = service.takeBack(first)
  await Promise.all([deleted, again, takenBack])
  assert.is(registry.get(id)?.state, 'attached')
  await service.takeBack(await again)
  await service.settled()
  assert.equal([registry.get(id), held.size], [undefined, 0])
})

test('rule 15: a loss that comes late cuts off who holds an address of the part, and no newer pod of the id', async () => {
  const { service, registry } = bed()
  const part = { poolUid: 'p', slot: '10.0.0.0/26', cidr: '10.0.0.0/27', generation: 1, holders: [id] }
  await service.add(request, here())
  for (const other of [
    { ...part, generation: 0 },
    { ...part, cidr: '10.0.0.32/27' },
    { ...part, poolUid: 'q' },
  ])
    await service.cutOff(id, other)
  assert.is(registry.get(id)?.state, 'attached')
  await service.cutOff(id, part)
  assert.is(registry.get(id)?.state, 'detaching')
})

test('rule 15: a part that is lost while an ADD takes from it', async () => {
  const part = { poolUid: 'p', slot: '10.0.0.0/26', cidr: '10.0.0.0/26', generation: 1, holders: [id] }
  let cut: Promise<void> | null = null
  const { service, held, registry } = bed({
    journal(record) {
      if (record.t === 'attach') cut = service.cutOff(id, part)
    },
  })
  await service.add(request, here())
  await cut
  await service.settled()
  assert.equal([registry.get(id), held.size], [undefined, 0])
})

/** Waits for what comes about by itself. */
async function eventually(what: string, holds: () => boolean): Promise<void> {
  for (let i = 0; i < 500 && !holds(); i++) await systemClock.sleep(10)
  assert.ok(holds(), what)
}

test('what could not be taken down is tried again though nobody asks: after an ADD, a cut, at a start', async () => {
  const faults: Faults = { detach: kernelSaysNo, attach: kernelSaysNo }
  const failed = bed(faults)
  assert.ok(isTwillError(await failure(failed.service.add(request, here())), 'kernel.failed'))
  assert.is(failed.held.size, 1)

  const cutFaults: Faults = { detach: kernelSaysNo }
  const cut = bed(cutFaults)
  await cut.service.add(request, here())
  await cut.service.cutOff(id, null)
  const half = cut.registry.get(id) as Attachment

  const startFaults: Faults = { detach: kernelSaysNo }
  const started = bed(startFaults, [half])
  assert.equal(await started.service.recover(), { kept: 0, undone: 1, dead: 0 })

  for (const each of [faults, cutFaults, startFaults]) delete each.detach
  for (const { registry } of [failed, cut, started])
    await eventually('it is gone', () => registry.get(id) === undefined)
})

test('a journal that cannot be written at a start keeps no daemon from starting', async () => {
  let full = true
  const dead: Attachment = {
    ...request,
    id,
    netnsCookie: 'cookie-0',
    hostInterface: 'twl000000000001',
    podMac: '02:00:00:00:00:01',
    mtu: 1450,
    addresses: [],
    boot: 'boot:0',
    begunBoottimeMs: 0,
    since: 0,
    state: 'attached',
  }
  const { service, registry } = bed(
    {
      journal() {
        if (full) throw new TwillError('journal.write-failed', 'disk full')
      },
    },
    [dead],
  )
  await service.recover()
  assert.is(registry.get(id)?.state, 'detaching', 'the loop leaves it alone')
  full = false
  await service.settled()
  assert.is(registry.get(id), undefined)
})

test("a pod's new MAC is learned once", async () => {
  const { service, said, registry } = bed()
  await service.add(request, here())
  said.length = 0
  await service.learnMac(id, '02:aa:aa:aa:aa:aa')
  await service.learnMac(id, '02:aa:aa:aa:aa:aa')
  assert.equal(said, ['elements', 'journal attached'])
  assert.is(registry.get(id)?.podMac, '02:aa:aa:aa:aa:aa')
})

test.run()
