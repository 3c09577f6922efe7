/** A node leaves by what its journal says, whether its pods run on or were taken off the network before. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { Config } from '../../../daemon/config.ts'
import { leaveText, leaveWith } from '../../../daemon/leave.ts'
import { LocalState } from '../../../daemon/local-state.ts'
import { CLUSTER_KEY } from '../../../datastore/keys.ts'
import type { Part, SlotRecord } from '../../../datastore/records/slot.ts'
import type { Holder } from '../../../ipam/ipam.ts'
import type { Leave } from '../../../ipam/leave.ts'
import { silentLog } from '../../../lib/log.ts'
import { settle } from '../../fixtures/manual-clock.ts'
import { Rig, type RigNode } from '../ipam/rig.ts'

const MINUTE = 60_000
const root = mkdtempSync(join(tmpdir(), 'twsl-'))
const test = suite('leaving by the journal')
test.after(() => rmSync(root, { recursive: true }))

const parts = (rig: Rig, owner: string | null): Part[] =>
  rig.under<SlotRecord>('slots/').flatMap(([, slot]) => slot.parts.filter(part => part.owner === owner))

/** Node a with a part full of pods and one pod in a second; its daemon has ended. */
async function stopped(): Promise<{ rig: Rig; a: RigNode; config: Config }> {
  const rig = new Rig()
  rig.put(CLUSTER_KEY, { v: 1, uid: 'cluster' })
  await rig.createPool('default', '10.0.0.0/24', 28)
  const a = rig.node('a', { offlineAllowanceMs: 10 * MINUTE, marginMs: MINUTE, lowWater: 0 })
  a.start()
  await settle()
  for (let i = 0; i < 17; i++) await a.add(`p${i}`)
  await rig.clock.advance(5000)
  await a.ipam?.stop()
  a.kill()
  const times = { offlineAllowance: 10 * MINUTE, fenceMargin: MINUTE, coolDown: MINUTE }
  const config = { ...times, nodeName: 'a', stateDir: mkdtempSync(join(root, 'state-')) }
  return { rig, a, config: config as Config }
}

/** As the daemon of this node has journaled it; `kind` of what it tells of its holders. */
async function journal(
  { a, config }: { a: RigNode; config: Config },
  kind: Holder['kind'],
): Promise<LocalState> {
  const options = { stateDir: config.stateDir, boot: a.boot, coolDownMs: MINUTE }
  const open = () => LocalState.open(options, { clock: a.process, log: silentLog })
  const local = await open()
  await local.append({ t: 'node', uid: a.uid, name: 'a', clusterUid: 'cluster' })
  for (const record of a.records) await local.append({ t: 'ipam', record })
  for (const { holder, addresses } of a.attachments.values()) {
    const netns = { path: '/run/netns/x', dev: null, ino: null }
    const held = { ...holder, netns, netnsCookie: null, addresses, boot: a.boot, begunBoottimeMs: 1 }
    if (kind === 'ipam') await local.append({ t: 'lease', lease: held })
    else
      await local.append({
        t: 'attach',
        attachment: { ...held, hostInterface: 'twl000000000001', podMac: null, mtu: 1450, state: 'attached' },
      })
  }
  await local.close()
  return open()
}

async function leave(
  { rig, a, config }: Awaited<ReturnType<typeof stopped>>,
  kind: Holder['kind'],
  isOver?: (holder: Holder) => boolean,
): Promise<Leave> {
  const local = await journal({ a, config }, kind)
  const over = isOver === undefined ? {} : { isOver }
  const modules = { local, store: a.store, clock: a.process, log: silentLog, ...over }
  let isDone = false
  const leaving = leaveWith(config, { boot: a.boot, hardware: 'hw-a' }, modules).finally(() => {
    isDone = true
  })
  leaving.catch(() => undefined)
  // Short of the time after which it gives up.
  for (let i = 0; i < 200 && !isDone; i++) await rig.clock.advance(100)
  return leaving.finally(() => local.close())
}

test('pods that run on keep their parts, fenced', async () => {
  const node = await stopped()
  const left = await leave(node, 'pod')
  assert.equal(left, { freed: 0, fenced: 2, allowanceMs: 10 * MINUTE, last: true })
  assert.is(parts(node.rig, node.a.uid).length, 2)
  assert.match(
    leaveText(node.config, left),
    /^Node a has left: 0 parts are free; 2 parts .* free after 11 min$/,
  )
})

test('pods that were taken off the network hold nothing: all is free at once, and cools down as after their DELs', async () => {
  const node = await stopped()
  const left = await leave(node, 'pod', () => true)
  assert.equal(left, { freed: 2, fenced: 0, allowanceMs: 10 * MINUTE, last: true })
  assert.is(leaveText(node.config, left), 'Node a has left: 2 parts are free')
  assert.equal(parts(node.rig, node.a.uid), [])
  assert.is(node.rig.read('nodes/a'), null)
  const cooling = parts(node.rig, null).flatMap(part => Object.keys(part.cooling))
  assert.is(cooling.length, 17)
})

test('an interface that keeps its address keeps the part that it is of, and no other', async () => {
  const node = await stopped()
  const left = await leave(node, 'ipam', ({ id }) => id !== 'p3')
  assert.equal([left.freed, left.fenced], [1, 1])
})

test.run()
