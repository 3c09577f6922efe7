/** twillctl ipam show: maps of pools and parts, one address, node, pod (golden); what is in no pool, what nobody holds. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { healthyRecords, LEDGER1, LEDGER2, SLOT } from '../../fixtures/audited-cluster.ts'
import { liveness, part, slot } from '../../fixtures/cluster-records.ts'
import { assertGolden } from '../../fixtures/golden.ts'
import { Twillctl } from '../../fixtures/twillctl.ts'

const AT = Date.UTC(2026, 0, 2)
const web = { namespace: 'default', name: 'web', uid: 'u1' }

const entry = (holder: string, name: string | null) => ({
  holder,
  kind: holder.startsWith('tunnel') ? 'tunnel' : 'pod',
  network: 'twill',
  containerId: `${holder}-0123456789abcdef`,
  ifName: 'eth0',
  pod: name === null ? null : { ...web, name },
  since: AT,
  boot: 'boot',
})

async function cluster(): Promise<Twillctl> {
  const cli = new Twillctl()
  const fenced = { ...part('10.244.0.96/27', 'uid-node3', 2), fence: { id: 'f', allowanceMs: 1 } }
  const records = {
    ...healthyRecords(),
    'resources/ippools/v6': {
      apiVersion: 'twill.network/v1alpha1',
      kind: 'IPPool',
      metadata: { name: 'v6', uid: 'pool-v6' },
      spec: { cidr: 'fd00:10:244::/64' },
    },
    'liveness/uid-node3': liveness('node3', { removed: { fence: 'f', by: 'ops', endsWith: 'return' } }),
    [SLOT]: slot([part('10.244.0.0/27', 'uid-node1', 3), part('10.244.0.32/27', 'uid-node2', 4)]),
    'slots/pool-default/10.244.0.64-26': slot([part('10.244.0.64/27', null, 1), fenced]),
    'slots/pool-v6/fd00:10:244::-122': slot([part('fd00:10:244::/122', 'uid-node1', 5)]),
    [LEDGER1]: {
      v: 1,
      owner: 'uid-node1',
      generations: {
        '3': { '10.244.0.0': entry('tunnel-4', null), '10.244.0.1': entry('a1', 'web') },
        '2': { '10.244.0.9': entry('a9', 'ghost') },
      },
      recent: [
        {
          address: '10.244.0.1',
          holder: 'z',
          pod: { ...web, name: 'old' },
          since: AT - 5000,
          until: AT - 4000,
        },
        { address: '10.244.0.1', holder: 'y', pod: null, since: AT - 3000, until: AT - 2000 },
        { address: '10.244.0.5', holder: 'x', pod: web, since: AT - 9000, until: AT - 8000 },
      ],
    },
    [LEDGER2]: {
      v: 1,
      owner: 'uid-node2',
      generations: { '4': { '10.244.0.33': entry('b1', 'web') } },
      recent: [],
    },
    'ledgers/pool-v6/fd00:10:244::-122/uid-node1': {
      v: 1,
      owner: 'uid-node1',
      generations: { '5': { 'fd00:10:244::1': entry('a1', 'web') } },
      recent: [],
    },
  }
  for (const [key, value] of Object.entries(records)) await cli.put(key, value)
  return cli
}

for (const [name, argv] of Object.entries({
  pools: [],
  blocks: ['--blocks'],
  ip: ['--ip', '10.244.0.1'],
  'ip-free': ['--ip', '10.244.200.1'],
  'ip-fenced': ['--ip', '10.244.0.97'],
  node: ['--node', 'node1'],
  pod: ['--pod', 'default/web'],
}))
  test(`table: ipam show ${argv.join(' ')}`, async () => {
    const { code, out, err } = await (await cluster()).run('ipam', 'show', ...argv)
    assert.equal([code, err], [0, ''])
    assertGolden(`cli/ipam-show-${name}.txt`, out)
  })

test('JSON and YAML say the same as the table', async () => {
  const cli = await cluster()
  const json = JSON.parse((await cli.run('ipam', 'show', '--ip', '10.244.0.1', '-o', 'json')).out)
  assert.equal([json.pool, json.slot, json.part.node], ['default', '10.244.0.0/26', 'node1'])
  assert.equal(
    json.holders.map((each: { pod: string }) => each.pod),
    ['default/web'],
  )
  assert.equal(
    json.before.map((each: { until: string }) => each.until),
    ['2026-01-01T23:59:58.000Z', '2026-01-01T23:59:56.000Z'],
  )
  assert.match((await cli.run('ipam', 'show', '-o', 'yaml')).out, 'pool: v6')
})

test('a pod by its name in any namespace; an IPv6 address in any spelling', async () => {
  const cli = await cluster()
  const held = JSON.parse((await cli.run('ipam', 'show', '--pod', 'web', '-o', 'json')).out)
  assert.equal(
    held.holders.map(({ address, node }: { address: string; node: string }) => `${address} ${node}`).sort(),
    ['10.244.0.1 node1', '10.244.0.33 node2', 'fd00:10:244::1 node1'],
  )
  assert.match((await cli.run('ipam', 'show', '--ip', 'FD00:10:244:0::1')).out, /^fd00:10:244::1: pool v6/)
})

test('an address that is never handed out: why', async () => {
  const cli = await cluster()
  await cli.put('resources/ipreservations/kept', {
    apiVersion: 'twill.network/v1alpha1',
    kind: 'IPReservation',
    metadata: { name: 'kept' },
    spec: { addresses: ['10.244.0.5-10.244.0.9'] },
  })
  const reserved = await cli.run('ipam', 'show', '--ip', '10.244.0.6')
  assert.match(reserved.out, '\nnever handed out: reserved by IPReservation kept\n')
  cli.files.set(
    'lan.yaml',
    'apiVersion: twill.network/v1alpha1\nkind: IPPool\nmetadata: {name: lan}\nspec: {cidr: 10.50.0.0/24, allowedUses: [ipam], gateway: 10.50.0.9}\n',
  )
  await cli.run('apply', '-f', 'lan.yaml')
  const why = async (ip: string) =>
    JSON.parse((await cli.run('ipam', 'show', '--ip', ip, '-o', 'json')).out).withheld
  assert.equal(
    [await why('10.50.0.9'), await why('10.50.0.255'), await why('10.50.0.1'), await why('10.244.0.1')],
    ["the pool's gateway", 'the network or broadcast address of the pool', null, null],
  )
})

test('entries of a generation that the slot no longer shows are nobody’s', async () => {
  const { out } = await (await cluster()).run('ipam', 'show', '--ip', '10.244.0.9')
  assert.match(out, 'nobody, and nobody lately')
})

for (const [argv, line] of [
  [['--ip', '192.0.2.1'], '192.0.2.1: in no IPPool'],
  [['--node', 'none'], 'Node none: not found'],
  [['--pod', 'none'], 'pod none: holds no address, and held none lately'],
] as const)
  test(`not there: ipam show ${argv.join(' ')}`, async () => {
    assert.equal(await (await cluster()).run('ipam', 'show', ...argv), {
      code: 1,
      out: '',
      err: `error: ${line}\n`,
    })
  })

test('an empty cluster: nothing on stdout, a word on stderr', async () => {
  assert.equal(await new Twillctl().run('ipam', 'show'), { code: 0, out: '', err: 'no ippools\n' })
  assert.equal((await new Twillctl().run('ipam', 'show', '--blocks')).out, '')
})

test('an address reads one slot only, however many there are', async () => {
  const cli = await cluster()
  const lists: string[] = []
  const { list } = cli.store
  cli.store.list = prefix => {
    lists.push(prefix)
    return list.call(cli.store, prefix)
  }
  await cli.run('ipam', 'show', '--ip', '10.244.0.1')
  assert.not(lists.includes('ledgers/') || lists.includes('slots/'))
})

test.run()
