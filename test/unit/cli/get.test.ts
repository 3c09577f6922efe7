/** twillctl get: tables (golden), YAML, JSON with status, damaged records, an empty cluster. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ledger, liveness, nodeRecord, part, slot } from '../../fixtures/cluster-records.ts'
import { assertGolden } from '../../fixtures/golden.ts'
import { Twillctl } from '../../fixtures/twillctl.ts'

/** Name, CIDR, state in the address space (null: kept out), what differs from the defaults. */
const pools = [
  ['default', '10.244.0.0/16', 'open', {}],
  ['v6', 'fd00:10:244::/64', 'open', { natOutgoing: false }],
  ['old', '10.9.0.0/24', 'closed', { encapsulation: 'Never' }],
  [
    'off',
    '10.8.0.0/24',
    'open',
    {
      disabled: true,
      allowedUses: ['tunnel'],
      namespaceSelector: { matchLabels: { team: 'retail' } },
      nodeSelector: {
        matchLabels: { zone: 'a' },
        matchExpressions: [
          { key: 'rack', operator: 'NotIn', values: ['r1', 'r2'] },
          { key: 'gpu', operator: 'DoesNotExist' },
        ],
      },
    },
  ],
  ['clash', '10.244.128.0/20', null, {}],
] as const

/** Two living nodes, one removed, one that only the operator knows, pools in every state, some addresses held. */
async function cluster(): Promise<Twillctl> {
  const cli = new Twillctl()
  for (const [name, cidr, , spec] of pools)
    await cli.put(`resources/ippools/${name}`, {
      apiVersion: 'twill.network/v1alpha1',
      kind: 'IPPool',
      metadata: { name, uid: `pool-${name}` },
      spec: { cidr, ...spec },
    })
  await cli.put('address-space', {
    v: 1,
    pools: pools.flatMap(([name, cidr, state]) =>
      state === null ? [] : [{ uid: `pool-${name}`, name, cidr, state }],
    ),
    restored: null,
  })
  for (const [index, name] of ['node1', 'node2'].entries()) {
    await cli.put(`nodes/${name}`, { ...nodeRecord(name, index + 1), labels: { zone: 'own', disk: 'ssd' } })
    await cli.put(`liveness/uid-${name}`, liveness(name))
  }
  await cli.put(
    'liveness/uid-node3',
    liveness('node3', { removed: { fence: 'f', by: 'ops', endsWith: 'return' } }),
  )
  for (const [name, labels] of [
    ['node1', { zone: 'a', rack: 'r1' }],
    ['node4', { zone: 'b' }],
  ] as const)
    await cli.put(`resources/nodes/${name}`, {
      apiVersion: 'twill.network/v1alpha1',
      kind: 'Node',
      metadata: { name, labels },
      spec: {},
    })
  await cli.put(
    'slots/pool-default/10.244.0.0-26',
    slot([part('10.244.0.0/27', 'uid-node1', 3), part('10.244.0.32/27', 'uid-node2', 4)]),
  )
  await cli.put(
    'slots/pool-default/10.244.0.64-26',
    slot([part('10.244.0.64/27', 'uid-node3', 2), part('10.244.0.96/27', null, 1)]),
  )
  await cli.put('slots/pool-v6/fd00:10:244::-122', slot([part('fd00:10:244::/122', 'uid-node1', 5)]))
  await cli.put(
    'ledgers/pool-default/10.244.0.0-26/uid-node1',
    ledger('uid-node1', { '3': ['10.244.0.0', '10.244.0.1'], '2': ['10.244.0.9'] }),
  )
  await cli.put('ledgers/pool-default/10.244.0.0-26/uid-node2', ledger('uid-node2', { '4': ['10.244.0.33'] }))
  await cli.put(
    'ledgers/pool-v6/fd00:10:244::-122/uid-node1',
    ledger('uid-node1', { '5': ['fd00:10:244::1'] }),
  )
  return cli
}

for (const argv of [['nodes'], ['nodes', '-o', 'wide'], ['ippools'], ['ippools', '-o', 'wide']])
  test(`table: get ${argv.join(' ')}`, async () => {
    const { code, out, err } = await (await cluster()).run('get', ...argv)
    assert.equal([code, err], [0, ''])
    assertGolden(`cli/get-${argv.filter(word => word !== '-o').join('-')}.txt`, out)
  })

test('one by name, by any of its kind’s names', async () => {
  const cli = await cluster()
  for (const kind of ['ippool', 'ippools', 'pool', 'IPPool'])
    assert.match((await cli.run('get', kind, 'v6')).out, /^NAME.*\nv6 .*\n$/)
})

test('addresses of a generation that the slot no longer shows are not counted', async () => {
  const cli = await cluster()
  const held = async () => JSON.parse((await cli.run('get', 'pool', 'default', '-o', 'json')).out).status.held
  assert.is(await held(), 3)
  await cli.put('ledgers/pool-default/10.244.0.0-26/uid-node1', ledger('uid-node1', { '2': ['10.244.0.9'] }))
  assert.is(await held(), 1)
})

test('JSON: one object by name, a list without, each with its status', async () => {
  const cli = await cluster()
  const node = JSON.parse((await cli.run('get', 'node', 'node1', '-o', 'json')).out)
  assert.equal(node.metadata.labels, { zone: 'a', rack: 'r1' })
  assert.equal(node.status, {
    state: 'Registered',
    uid: 'uid-node1',
    incarnation: 'boot-1',
    underlay: ['192.168.77.1'],
    tunnel: ['10.244.0.0', 'fd00:10:244::1'],
    labels: { zone: 'a', rack: 'r1', disk: 'ssd' },
    hostAddresses: ['172.17.0.1'],
    vteps: [{ family: 4, mac: '02:00:00:00:00:01', vni: 84, port: 4789 }],
    parts: 2,
    claimed: '96',
    held: 3,
  })
  const all = JSON.parse((await cli.run('get', 'ippools', '-o', 'json')).out)
  assert.equal(
    all.map((pool: { metadata: { name: string }; status: { state: string } }) => [
      pool.metadata.name,
      pool.status.state,
    ]),
    [
      ['clash', 'Conflict'],
      ['default', 'Open'],
      ['off', 'Disabled'],
      ['old', 'Closing'],
      ['v6', 'Open'],
    ],
  )
  assert.is(all.at(-1).status.addresses, String(2n ** 64n))
})

test('a pool that nobody has entered yet collides with nobody', async () => {
  const cli = await cluster()
  await cli.put('resources/ippools/fresh', {
    apiVersion: 'twill.network/v1alpha1',
    kind: 'IPPool',
    metadata: { name: 'fresh' },
    spec: { cidr: '10.77.0.0/24' },
  })
  const { status } = JSON.parse((await cli.run('get', 'ippool', 'fresh', '-o', 'json')).out)
  assert.is(status.state, 'Pending')
})

test('one over the address of a node is in conflict, though nobody has entered it', async () => {
  const cli = await cluster()
  await cli.put('resources/ippools/under', {
    ...{ apiVersion: 'twill.network/v1alpha1', kind: 'IPPool', metadata: { name: 'under' } },
    spec: { cidr: '192.168.77.0/24' },
  })
  const { status } = JSON.parse((await cli.run('get', 'ippool', 'under', '-o', 'json')).out)
  assert.is(status.state, 'Conflict')
})

test('YAML of a node of which the operator said nothing is a document to begin with', async () => {
  const { out } = await (await cluster()).run('get', 'node', 'node2', '-o', 'yaml')
  assert.is(out, 'apiVersion: twill.network/v1alpha1\nkind: Node\nmetadata:\n  name: node2\nspec: {}\n')
})

test('what does not exist: one line, exit code 1', async () => {
  assert.equal(await (await cluster()).run('get', 'ippool', 'none'), {
    code: 1,
    out: '',
    err: 'error: IPPool none: not found\n',
  })
})

test('an empty cluster: nothing on stdout, a word on stderr', async () => {
  assert.equal(await new Twillctl().run('get', 'nodes'), { code: 0, out: '', err: 'no nodes\n' })
  assert.equal(await new Twillctl().run('get', 'pools', '-o', 'json'), { code: 0, out: '[]\n', err: '' })
})

test('a damaged record is told and the others are shown', async () => {
  const cli = await cluster()
  await cli.put('nodes/node2', '{')
  await cli.put('resources/ippools/off', '{"kind":"IPPool"}')
  const nodes = await cli.run('get', 'nodes')
  assert.is(nodes.code, 0)
  assert.match(nodes.err, /^warning: record nodes\/node2 is damaged/)
  assert.match(nodes.out, 'node1')
  const { out, err } = await cli.run('get', 'pools')
  assert.match(err, 'warning: record resources/ippools/off: ')
  assert.not.match(out, 'off')
})

test('no colours without a terminal, nor with NO_COLOR; errors are red on one', async () => {
  const cli = new Twillctl()
  const colour = '\u001b['
  assert.not.ok((await cli.run('get', 'pod')).err.includes(colour))
  cli.isTTY = true
  assert.ok((await cli.run('get', 'pod')).err.includes(colour))
  cli.env.NO_COLOR = '1'
  assert.not.ok((await cli.run('get', 'pod')).err.includes(colour))
})

test.run()
