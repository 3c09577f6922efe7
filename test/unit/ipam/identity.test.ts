import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { MemoryStore } from '../../../datastore/memory/store.ts'
import type { LivenessRecord } from '../../../datastore/records/liveness.ts'
import type { NodeRecord } from '../../../datastore/records/node.ts'
import { Heartbeat } from '../../../ipam/heartbeat.ts'
import { establishIdentity, type Identity } from '../../../ipam/identity.ts'
import { withdrawName } from '../../../ipam/removal.ts'
import { isTwillError, type TwillError } from '../../../lib/errors.ts'
import { silentLog } from '../../../lib/log.ts'
import { Rig } from './rig.ts'

class Machine {
  readonly store: MemoryStore
  readonly remembered: string[] = []
  readonly taken: TwillError[] = []
  readonly #rig: Rig
  readonly hardware: string
  journaledUid: string | null = null
  #heartbeat: Heartbeat | null = null

  constructor(rig: Rig, hardware: string) {
    this.#rig = rig
    this.hardware = hardware
    this.store = new MemoryStore({}, { cluster: rig.cluster, clock: rig.clock })
  }

  contested = false

  /** What became of it after `withinMs`. */
  async establish(name: string, withinMs = 60_000): Promise<Identity | string> {
    const { clock, random } = this.#rig
    const { hardware, journaledUid } = this
    let result: Identity | string = 'still waiting'
    establishIdentity(
      { name, hardware, incarnation: 'boot', journaledUid, heartbeatMs: 10_000, allowanceMs: 3_600_000 },
      {
        store: this.store,
        clock,
        random,
        log: silentLog,
        contested: () => {
          this.contested = true
        },
        remember: async uid => {
          this.remembered.push(uid)
          this.journaledUid = uid
        },
      },
    ).then(
      identity => {
        result = identity
      },
      error => {
        result = isTwillError(error) ? error.code : String(error)
      },
    )
    await clock.advance(withinMs)
    return result
  }

  beat(name: string, identity: Identity, isRecreated?: () => Promise<boolean>): void {
    const { clock } = this.#rig
    this.#heartbeat = new Heartbeat(
      {
        uid: identity.uid,
        name,
        hardware: this.hardware,
        heartbeatMs: 10_000,
        allowanceMs: 3_600_000,
        onTaken: reason => this.taken.push(reason),
        ...(isRecreated === undefined ? {} : { isRecreated }),
      },
      { store: this.store, clock, log: silentLog },
    )
    this.#heartbeat.start()
  }

  async stop(): Promise<void> {
    await this.#heartbeat?.stop()
  }
}

const identityOf = (result: Identity | string): Identity => {
  if (typeof result === 'string') throw new Error(result)
  return result
}
const nodeUid = (rig: Rig) => rig.read<NodeRecord>('nodes/n')?.uid
const liveness = (rig: Rig, uid: string) => rig.read<LivenessRecord>(`liveness/${uid}`)

async function living(isRecreated?: () => Promise<boolean>) {
  const rig = new Rig()
  const first = new Machine(rig, 'hw-1')
  const identity = identityOf(await first.establish('n', 0))
  first.beat('n', identity, isRecreated)
  await rig.clock.advance(1000)
  return { rig, first, identity }
}

test('a new machine gets a new UID at once, journaled before it is written', async () => {
  const { rig, first, identity } = await living()
  assert.equal(first.remembered, [identity.uid])
  assert.is(identity.fresh, true)
  assert.is(nodeUid(rig), identity.uid)
  assert.is(liveness(rig, identity.uid)?.hardware, 'hw-1')
})

test('a restart keeps the UID, without waiting', async () => {
  const { first, identity } = await living()
  await first.stop()
  const again = identityOf(await first.establish('n', 0))
  assert.equal(again, { uid: identity.uid, fresh: false, replaced: null })
})

test('under another name a machine keeps its UID; its former name is free once its record has gone', async () => {
  const { rig, first, identity } = await living()
  await first.stop()
  const renamed = identityOf(await first.establish('other', 0))
  assert.equal(renamed, { uid: identity.uid, fresh: false, replaced: null })
  assert.is(liveness(rig, identity.uid)?.name, 'other')
  first.beat('other', renamed)
  const second = new Machine(rig, 'hw-2')
  assert.is(await second.establish('n'), 'node.name-taken')
  await withdrawName('n', new Set([identity.uid]), first.store)
  assert.is.not(identityOf(await second.establish('n')).uid, identity.uid)
  assert.equal([first.taken, nodeUid(rig)], [[], second.journaledUid])
  await first.stop()
})

test('rule 14: two machines with one name: the second is refused while the first lives', async () => {
  const { rig, identity } = await living()
  assert.is(await new Machine(rig, 'hw-2').establish('n'), 'node.name-taken')
  assert.is(nodeUid(rig), identity.uid)
})

test('rule 14: the refusal names both machines', async () => {
  const { rig } = await living()
  const second = establishIdentity(
    { name: 'n', hardware: 'hw-2', incarnation: 'b', journaledUid: null, heartbeatMs: 1, allowanceMs: 1 },
    { store: rig.operator, clock: rig.clock, random: rig.random, log: silentLog, remember: async () => {} },
  )
  const message = second.then(
    () => 'none',
    error => error.message,
  )
  await rig.clock.advance(60_000)
  assert.match(await message, /hw-2.*hw-1/)
})

test('rule 14: a machine that is silent is replaced under a new UID, which inherits nothing', async () => {
  const { rig, first, identity } = await living()
  await first.stop()
  const part = {
    cidr: '10.0.0.0/26',
    owner: identity.uid,
    generation: 2,
    claim: 'c',
    fence: null,
    cooling: {},
  }
  rig.put('slots/pool/10.0.0.0-26', { v: 1, generation: 2, parts: [part], requests: [] })
  const second = new Machine(rig, 'hw-2')
  assert.is(await second.establish('n', 20_000), 'still waiting')
  await rig.clock.advance(20_000)
  const next = nodeUid(rig)
  assert.is.not(next, identity.uid)
  assert.is(liveness(rig, identity.uid)?.removed?.endsWith, 'return')
  assert.equal(second.remembered, [next])
})

test('rule 11: of a machine that had no part when it was replaced, no liveness record is left; a slot that cannot be read keeps it', async () => {
  for (const slot of [null, { v: 1, parts: 'damaged' }]) {
    const { rig, first, identity } = await living()
    await first.stop()
    rig.put('slots/pool/10.0.0.0-26', slot)
    const second = new Machine(rig, 'hw-2')
    await second.establish('n')
    assert.is.not(nodeUid(rig), identity.uid)
    assert.is(liveness(rig, identity.uid) === null, slot === null)
  }
})

test('whoever waits hears at once that another machine is being watched, and else never', async () => {
  const { rig, first } = await living()
  assert.not.ok(first.contested)
  const second = new Machine(rig, 'hw-2')
  assert.is(await second.establish('n', 100), 'still waiting')
  assert.ok(second.contested)
})

test('rule 14: a heartbeat at the last instant makes the taking fail', async () => {
  const { rig, first, identity } = await living()
  await first.stop()
  const second = new Machine(rig, 'hw-2')
  const record = liveness(rig, identity.uid)
  const { commit } = second.store
  let moved = false
  second.store.commit = async function (this: MemoryStore, change) {
    if (!moved && change.key.startsWith('liveness/')) {
      moved = true
      rig.put(`liveness/${identity.uid}`, { ...record, heartbeat: (record?.heartbeat ?? 0) + 1 })
    }
    return commit.call(this, change)
  }
  const result = second.establish('n', 32_000)
  assert.is(await result, 'still waiting')
  assert.is(nodeUid(rig), identity.uid)
  assert.is(liveness(rig, identity.uid)?.removed, null)
})

test('rule 14, 15: the machine that was replaced is refused when it returns, and told if it still runs', async () => {
  const { rig, first, identity } = await living()
  await first.stop()
  const second = new Machine(rig, 'hw-2')
  const next = identityOf(await second.establish('n'))
  second.beat('n', next)
  await rig.clock.advance(1000)
  assert.is(await first.establish('n'), 'node.name-taken')
  first.beat('n', identity)
  await rig.clock.advance(1000)
  assert.is(first.taken[0]?.code, 'node.name-taken')
})

test('rule 14: a clone with a copied state directory is refused; under another name it is a new node', async () => {
  const { rig, identity } = await living()
  const clone = new Machine(rig, 'hw-2')
  clone.journaledUid = identity.uid
  assert.is(await clone.establish('n'), 'node.name-taken')
  const renamed = identityOf(await clone.establish('m', 0))
  assert.is.not(renamed.uid, identity.uid)
  assert.is(renamed.fresh, true)
  assert.is(liveness(rig, identity.uid)?.removed, null)
})

test('rule 17: a machine that lost its journal is the same machine, once its own counter stands still', async () => {
  const { rig, first, identity } = await living()
  await first.stop()
  first.journaledUid = null
  assert.equal(await first.establish('n'), { uid: identity.uid, fresh: false, replaced: null })
  assert.is(nodeUid(rig), identity.uid)
})

test('two new machines that take one name at the same instant: one gets it', async () => {
  const rig = new Rig()
  const machines = [new Machine(rig, 'hw-1'), new Machine(rig, 'hw-2')]
  const results = await Promise.all(machines.map(machine => machine.establish('n', 0)))
  const winners = results.filter(result => typeof result !== 'string')
  assert.is(winners.length, 1)
  assert.is(nodeUid(rig), (winners[0] as Identity).uid)
})

test('an exact copy of a machine is noticed by its heartbeats', async () => {
  const { rig, first, identity } = await living()
  const copy = new Machine(rig, 'hw-1')
  copy.journaledUid = identity.uid
  copy.beat('n', identityOf(await copy.establish('n', 0)))
  await rig.clock.advance(60_000)
  assert.ok(first.taken.length + copy.taken.length > 0)
})

test('a heartbeat in doubt is not taken for another machine', async () => {
  const { rig, first } = await living()
  for (const doubt of ['landed', 'lost', 'landed', 'landed'] as const) {
    first.store.doubtNext(doubt)
    await rig.clock.advance(10_000)
  }
  await rig.clock.advance(30_000)
  assert.equal(first.taken, [])
})

test('a node that was removed by name and lives takes the mark away', async () => {
  const { rig, identity } = await living()
  const record = liveness(rig, identity.uid)
  rig.put(`liveness/${identity.uid}`, { ...record, removed: { fence: 'f', by: 'x', endsWith: 'return' } })
  await rig.clock.advance(20_000)
  assert.is(liveness(rig, identity.uid)?.removed, null)
  rig.put(`liveness/${identity.uid}`, {
    ...liveness(rig, identity.uid),
    removed: { fence: 'f', by: 'k', endsWith: 'recreation' },
  })
  await rig.clock.advance(20_000)
  assert.is(liveness(rig, identity.uid)?.removed?.fence, 'f')
})

test('rule 13: a removal by the deletion of its Node object ends when there is one again, and not before', async () => {
  let asked = 0
  let answer: boolean | Error = false
  const { rig, identity } = await living(async () => {
    asked++
    if (answer instanceof Error) throw answer
    return answer
  })
  await rig.clock.advance(30_000)
  assert.is(asked, 0, 'nobody is asked while nobody removed it')
  const removed = { fence: 'f', by: 'k', endsWith: 'recreation' as const }
  rig.put(`liveness/${identity.uid}`, { ...liveness(rig, identity.uid), removed })
  await rig.clock.advance(30_000)
  answer = new Error('the API server is away')
  await rig.clock.advance(30_000)
  assert.ok(asked > 3)
  assert.equal(liveness(rig, identity.uid)?.removed, removed)
  const { heartbeat } = liveness(rig, identity.uid) as LivenessRecord
  answer = true
  await rig.clock.advance(20_000)
  assert.is(liveness(rig, identity.uid)?.removed, null)
  assert.ok((liveness(rig, identity.uid)?.heartbeat ?? 0) > heartbeat)
})

test('rule 13: a daemon that starts on a removed node does not register it again', async () => {
  const { rig, first, identity } = await living()
  await first.stop()
  const removed = { fence: 'f', by: 'k', endsWith: 'recreation' as const }
  rig.put(`liveness/${identity.uid}`, { ...liveness(rig, identity.uid), removed })
  rig.put('nodes/n', null)
  const again = await first.establish('n')
  assert.equal(again, { uid: identity.uid, fresh: false, replaced: null })
  assert.is(rig.read('nodes/n'), null)
  assert.equal(liveness(rig, identity.uid)?.removed, removed)
})

test.run()
