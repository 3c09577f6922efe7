/** twillctl delete: pools in use stay, a living node stays, a silent one is marked, fenced and withdrawn. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type { LivenessRecord } from '../../../datastore/records/liveness.ts'
import type { SlotRecord } from '../../../datastore/records/slot.ts'
import { TwillError } from '../../../lib/errors.ts'
import { ledger, liveness, nodeRecord, part, slot } from '../../fixtures/cluster-records.ts'
import { Twillctl } from '../../fixtures/twillctl.ts'

const POOL = `apiVersion: twill.network/v1alpha1
kind: IPPool
metadata: {name: default}
spec: {cidr: 10.244.0.0/16}
`
const SLOT = 'slots/id-1/10.244.0.0-26'

async function withPool(): Promise<Twillctl> {
  const cli = new Twillctl()
  cli.files.set('p.yaml', POOL)
  assert.is((await cli.run('apply', '-f', 'p.yaml')).code, 0)
  return cli
}

test('a pool that nobody uses goes, with its entry in the address space', async () => {
  const cli = await withPool()
  assert.equal(await cli.run('delete', 'ippool', 'default'), {
    code: 0,
    out: 'IPPool default deleted\n',
    err: '',
  })
  assert.is(await cli.record('resources/ippools/default'), null)
  assert.equal(((await cli.record('address-space')) as { pools: object[] }).pools, [])
})

test('by file', async () => {
  const cli = await withPool()
  assert.is((await cli.run('delete', '-f', 'p.yaml')).out, 'IPPool default deleted\n')
  assert.equal(await cli.run('delete', '-f', 'p.yaml'), {
    code: 1,
    out: '',
    err: 'error: IPPool default: not found\n',
  })
})

test('a pool in use is refused and stays open; the others named are deleted', async () => {
  const cli = await withPool()
  await cli.put(SLOT, slot([part('10.244.0.0/26', 'uid-node1', 3)]))
  await cli.put('ledgers/id-1/10.244.0.0-26/uid-node1', ledger('uid-node1', { '3': ['10.244.0.1'] }))
  cli.files.set('q.yaml', POOL.replace('default', 'other').replace('10.244', '10.245'))
  await cli.run('apply', '-f', 'q.yaml')
  const { code, out, err } = await cli.run('delete', 'ippool', 'default', 'other')
  assert.is(code, 1)
  assert.is(out, 'IPPool other deleted\n')
  assert.match(
    err,
    /^error: IPPool default is in use and stays as it was: 1 pod holds addresses of it: container 10.244.0.1 on uid-node1\. With --drain/,
  )
  assert.match((await cli.run('get', 'pool', 'default')).out, 'Open')
})

test('--drain closes it and says what is missing', async () => {
  const cli = await withPool()
  await cli.put(SLOT, slot([part('10.244.0.0/26', 'uid-node1', 3)]))
  const { code, err } = await cli.run('delete', 'ippool', 'default', '--drain')
  assert.is(code, 1)
  assert.is(
    err,
    'error: IPPool default: closed, and not empty yet: uid-node1: 1 empty part, which its daemon gives back when it runs. Run this again when that has gone, or with --cancel to keep the pool\n',
  )
  assert.match((await cli.run('get', 'pool', 'default')).out, 'Closing')
  await cli.put(SLOT, slot([part('10.244.0.0/26', null, 3)]))
  assert.is((await cli.run('delete', 'ippool', 'default', '--drain')).out, 'IPPool default deleted\n')
})

test('who is in the way is named: nodes, pods, containers, nodes on the overlay', async () => {
  const cli = await withPool()
  await cli.put('nodes/node1', nodeRecord('node1', 1))
  await cli.put('liveness/uid-node2', liveness('node2'))
  await cli.put(SLOT, slot([part('10.244.0.0/27', 'uid-node1', 3), part('10.244.0.32/27', 'uid-node2', 4)]))
  const held = ledger('uid-node1', { '3': ['10.244.0.1', '10.244.0.2', '10.244.0.3', '10.244.0.4'] }) as {
    generations: { '3': Record<string, { pod: unknown }> }
  }
  for (const [name, address] of [
    ['web', '10.244.0.1'],
    ['db', '10.244.0.2'],
  ] as const)
    Object.assign(held.generations['3'][address] ?? {}, { pod: { namespace: 'default', name, uid: name } })
  const tunnel = JSON.parse(
    JSON.stringify(ledger('uid-node2', { '4': ['10.244.0.32'] })).replace('"pod"', '"tunnel"'),
  )
  await cli.put('ledgers/id-1/10.244.0.0-26/uid-node1', held)
  await cli.put('ledgers/id-1/10.244.0.0-26/uid-node2', tunnel)
  const refused = await cli.run('delete', 'ippool', 'default')
  assert.match(
    refused.err,
    '4 pods hold addresses of it: default/web on node1, default/db on node1, container 10.244.0.3 on node1 and 1 more.',
  )
  const drained = await cli.run('delete', 'ippool', 'default', '--drain')
  assert.match(
    drained.err,
    'not empty yet: node1: pods default/web, default/db, container 10.244.0.3 and 1 more; node2: its own address on the overlay. Run',
  )
})

test('--cancel opens it again', async () => {
  const cli = await withPool()
  await cli.put(SLOT, slot([part('10.244.0.0/26', 'uid-node1', 3)]))
  await cli.run('delete', 'ippool', 'default', '--drain')
  assert.is((await cli.run('delete', 'ippool', 'default', '--cancel')).out, 'IPPool default open again\n')
  assert.match((await cli.run('get', 'pool', 'default')).out, 'Open')
  assert.is(
    (await cli.run('delete', '-f', 'p.yaml', '--cancel')).out,
    'IPPool default unchanged: it was not being deleted\n',
  )
  assert.is((await cli.run('delete', 'ippool', 'none', '--cancel')).err, 'error: IPPool none: not found\n')
  cli.files.set('n.yaml', 'apiVersion: twill.network/v1alpha1\nkind: Namespace\nmetadata: {name: n}\n')
  assert.match((await cli.run('delete', '-f', 'n.yaml', '--cancel')).err, '--cancel: expected an IPPool')
  assert.is((await cli.run('delete', 'ippool', 'default', '--cancel', '--drain')).code, 2)
})

/** node2 with parts in two slots, next to a part of node1. */
async function withNode(changes: Partial<LivenessRecord> = {}): Promise<Twillctl> {
  const cli = new Twillctl()
  await cli.put('nodes/node2', nodeRecord('node2', 2))
  await cli.put('liveness/uid-node2', liveness('node2', changes))
  await cli.put('resources/nodes/node2', {
    apiVersion: 'twill.network/v1alpha1',
    kind: 'Node',
    metadata: { name: 'node2' },
    spec: {},
  })
  await cli.put(
    'slots/p/10.244.0.0-26',
    slot([part('10.244.0.0/27', 'uid-node1', 3), part('10.244.0.32/27', 'uid-node2', 4)]),
  )
  await cli.put('slots/p/10.244.0.64-26', slot([part('10.244.0.64/26', 'uid-node2', 5)]))
  return cli
}

const fences = async (cli: Twillctl, key: string) =>
  ((await cli.record(key)) as SlotRecord).parts.map(each => each.fence)

test('rule 9: a silent node: marked, its parts fenced with its allowance, record and resource gone', async () => {
  const cli = await withNode()
  cli.env.USER = 'alice'
  const { code, out, err } = await cli.run('delete', 'node', 'node2')
  assert.is(code, 0, err)
  assert.is(out, 'Node node2 deleted: its 2 parts are fenced and become free after 61 min\n')
  assert.is(err, 'watching the heartbeat of node node2 for 25 s\n')
  const { removed } = (await cli.record('liveness/uid-node2')) as LivenessRecord
  assert.equal([removed?.by, removed?.endsWith], ['twillctl (alice)', 'return'])
  const fence = { id: removed?.fence, allowanceMs: 3_600_000 }
  assert.equal(await fences(cli, 'slots/p/10.244.0.0-26'), [null, fence])
  assert.equal(await fences(cli, 'slots/p/10.244.0.64-26'), [fence])
  assert.is(await cli.record('nodes/node2'), null)
  assert.is(await cli.record('resources/nodes/node2'), null)
  // Generations are raised when a part changes owner, and only then (rule 1).
  const { parts, generation } = (await cli.record('slots/p/10.244.0.64-26')) as SlotRecord
  assert.equal([parts[0]?.generation, generation], [5, 9])
})

test('the margin of the daemons is counted too: that of the configuration, if it says one', async () => {
  const cli = await withNode()
  cli.files.set('/etc/twill/twilld.yaml', 'datastore: {type: embedded}\nfenceMargin: 5m\n')
  await cli.put('slots/p/10.244.0.0-26', slot([part('10.244.0.0/26', 'uid-node1', 3)]))
  assert.is(
    (await cli.run('delete', 'node', 'node2')).out,
    'Node node2 deleted: its 1 part is fenced and becomes free after 65 min\n',
  )
})

for (const atMs of [1_000, 24_000])
  test(`rule 13: a heartbeat ${atMs / 1000} s after the first look: refused, nothing changed`, async () => {
    const cli = await withNode()
    let beaten = false
    cli.onSleep = async passedMs => {
      if (passedMs < atMs || beaten) return
      beaten = true
      await cli.put('liveness/uid-node2', liveness('node2', { heartbeat: 8 }))
    }
    const { code, out, err } = await cli.run('delete', 'node', 'node2')
    assert.equal([code, out], [1, ''])
    assert.match(
      err,
      'error: Node node2: alive: its heartbeat went from 7 to 8: expected a node whose daemon is stopped',
    )
    assert.equal(await fences(cli, 'slots/p/10.244.0.64-26'), [null])
    assert.not.equal(await cli.record('nodes/node2'), null)
    assert.not.equal(await cli.record('resources/nodes/node2'), null)
  })

test('rule 13: a heartbeat between the last look and the mark is seen by compare-and-swap', async () => {
  const cli = await withNode()
  const commit = cli.store.commit.bind(cli.store)
  cli.store.commit = async asked => {
    cli.store.commit = commit
    await cli.put('liveness/uid-node2', liveness('node2', { heartbeat: 8 }))
    return commit(asked)
  }
  const { code, err } = await cli.run('delete', 'node', 'node2')
  assert.is(code, 1)
  assert.match(err, 'alive')
  assert.is(((await cli.record('liveness/uid-node2')) as LivenessRecord).removed, null)
})

test('a removal that stopped halfway is finished with the same fence, without watching again', async () => {
  const cli = await withNode({ removed: { fence: 'f1', by: 'ops', endsWith: 'return' } })
  const { code, err } = await cli.run('delete', 'node', 'node2')
  assert.equal([code, err], [0, ''])
  assert.equal(await fences(cli, 'slots/p/10.244.0.64-26'), [{ id: 'f1', allowanceMs: 3_600_000 }])
  assert.is(((await cli.record('liveness/uid-node2')) as LivenessRecord).removed?.by, 'ops')
})

test('rule 14: an earlier identity of the same name is fenced too; another machine’s record stays', async () => {
  const cli = await withNode()
  await cli.put('liveness/uid-earlier', liveness('node2', { uid: 'uid-earlier' }))
  await cli.put('slots/p/10.244.0.128-26', slot([part('10.244.0.128/26', 'uid-earlier', 6)]))
  await cli.put('nodes/node1', nodeRecord('node1', 1))
  assert.is((await cli.run('delete', 'node', 'node2')).code, 0)
  assert.not.equal(await fences(cli, 'slots/p/10.244.0.128-26'), [null])
  assert.not.equal(await cli.record('nodes/node1'), null)
})

test('a liveness record of another that cannot be read is named and kept; its own stops it', async () => {
  const cli = await withNode()
  await cli.put('liveness/uid-other', { v: 2 })
  const { code, err } = await cli.run('delete', 'node', 'node2')
  assert.is(code, 0, err)
  assert.match(err, /not looked at.*liveness\/uid-other.*newer/)
  assert.equal(await cli.record('liveness/uid-other'), { v: 2 })

  const own = await withNode()
  await own.put('liveness/uid-node2', { v: 2 })
  const refused = await own.run('delete', 'node', 'node2')
  assert.is(refused.code, 1)
  assert.match(refused.err, /liveness\/uid-node2.*newer/)
  assert.not.equal(await own.record('nodes/node2'), null)
})

test('a node that never registered: only what the operator wrote goes', async () => {
  const cli = new Twillctl()
  cli.files.set('n.yaml', 'apiVersion: twill.network/v1alpha1\nkind: Node\nmetadata: {name: later}\n')
  await cli.run('apply', '-f', 'n.yaml')
  assert.equal(await cli.run('delete', 'node', 'later'), { code: 0, out: 'Node later deleted\n', err: '' })
})

test('a node that nobody knows: one line, exit code 1', async () => {
  assert.equal(await new Twillctl().run('delete', 'node', 'none'), {
    code: 1,
    out: '',
    err: 'error: Node none: not found\n',
  })
})

test('a deletion whose answer is lost is reported as done', async () => {
  const cli = new Twillctl()
  cli.files.set('n.yaml', 'apiVersion: twill.network/v1alpha1\nkind: Node\nmetadata: {name: later}\n')
  await cli.run('apply', '-f', 'n.yaml')
  cli.store.doubtNext('landed')
  assert.is((await cli.run('delete', 'node', 'later')).out, 'Node later deleted\n')
})

test('a store that is away ends the command with one line', async () => {
  const cli = await withPool()
  cli.store.failWith(new TwillError('store.unavailable', 'etcd at http://etcd:2379: no connection'))
  const { code, err } = await cli.run('delete', 'ippool', 'default', 'other')
  assert.equal([code, err], [1, 'error: etcd at http://etcd:2379: no connection\n'])
})

test.run()
