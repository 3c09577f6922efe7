/** twillctl status: both there, either away, not ready; exit code 0 only when all is well. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type { Status } from '../../../daemon/api/types.ts'
import { TwillError } from '../../../lib/errors.ts'
import { liveness, nodeRecord } from '../../fixtures/cluster-records.ts'
import { assertGolden } from '../../fixtures/golden.ts'
import { Twillctl } from '../../fixtures/twillctl.ts'

const STATUS: Status = {
  node: {
    name: 'node1',
    uid: 'uid-node1',
    incarnation: 'boot-1',
    version: '0.1.0',
    startedAt: '2026-01-02T03:04:05.000Z',
    pid: 4242,
  },
  ready: true,
  reasons: [],
  datastore: {
    connected: true,
    reason: null,
    clusterUid: 'cluster-1',
    commits: 12,
    lastAnswerAt: '2026-01-02T03:04:06.000Z',
    confirmed: true,
  },
  kubernetes: {
    server: 'https://10.96.0.1:443',
    connected: true,
    reason: null,
    requests: 40,
    watched: [
      { what: 'pods of this node', objects: 12, connected: true, problem: null },
      { what: 'pods of other nodes', objects: 4988, connected: true, problem: null },
    ],
    missingRights: [],
    missingDefinitions: [],
  },
  underlay: [
    {
      family: 4,
      device: 'eth0',
      address: '192.168.77.1',
      mtu: 1500,
      reason: 'the default route leaves by it',
    },
  ],
  overlay: { device: 'twill-vx4', vni: 84, port: 4789, tunnel: ['10.244.0.0'], podMtu: 1450 },
  nodes: [
    { name: 'node1', uid: 'uid-node1', underlay: ['192.168.77.1'], tunnel: ['10.244.0.0'], self: true },
    { name: 'node2', uid: 'uid-node2', underlay: ['192.168.77.2'], tunnel: ['10.244.0.64'], self: false },
  ],
  parts: [{ pool: 'default', cidr: '10.244.0.0/26', free: 62, held: 2, usable: true }],
  leases: [],
  pods: [
    {
      id: 'a1',
      network: 'twill',
      containerId: 'c1',
      ifName: 'eth0',
      pod: { namespace: 'default', name: 'web', uid: 'u1' },
      addresses: ['10.244.0.1', 'fd00:10:244::1'],
      hostInterface: 'twc1',
      mac: '02:00:00:00:00:aa',
      state: 'attached',
      netns: '/run/netns/c1',
    },
  ],
  reconcile: {
    converged: true,
    failing: ['route 10.244.0.64/26: no such device'],
    repairs: { route: 3, neighbour: 1 },
  },
  foreignFilters: [{ table: 'ip filter', chain: 'FORWARD', hook: 'forward', reason: 'policy drop' }],
  conditions: [{ type: 'PoolConflict', message: 'IPPool clash overlaps IPPool default' }],
}

async function cluster(): Promise<Twillctl> {
  const cli = new Twillctl()
  cli.status = STATUS
  cli.files.set(
    'p.yaml',
    'apiVersion: twill.network/v1alpha1\nkind: IPPool\nmetadata: {name: default}\nspec: {cidr: 10.244.0.0/16}\n',
  )
  await cli.run('apply', '-f', 'p.yaml')
  await cli.put('cluster', { v: 1, uid: 'cluster-1' })
  await cli.put('nodes/node1', nodeRecord('node1', 1))
  await cli.put('nodes/node2', nodeRecord('node2', 2))
  await cli.put(
    'liveness/uid-node2',
    liveness('node2', { removed: { fence: 'f', by: 'ops', endsWith: 'return' } }),
  )
  return cli
}

test('both answer and the daemon is ready', async () => {
  const { code, out, err } = await (await cluster()).run('status')
  assert.equal([code, err], [0, ''])
  assertGolden('cli/status.txt', out)
})

test('the daemon is away: the datastore is shown', async () => {
  const cli = await cluster()
  cli.status = null
  const { code, out } = await cli.run('status')
  assert.is(code, 1)
  assertGolden('cli/status-without-daemon.txt', out)
})

test('the datastore is away: the daemon is shown', async () => {
  const cli = await cluster()
  cli.status = {
    ...STATUS,
    datastore: { ...STATUS.datastore, connected: false, reason: 'no connection' },
  }
  cli.store.failWith(new TwillError('store.unavailable', 'etcd at http://etcd:2379: no connection'))
  const { code, out } = await cli.run('status')
  assert.is(code, 1)
  assertGolden('cli/status-without-datastore.txt', out)
})

test('a daemon whose datastore has not answered since its start says so, and one that was not asked who this node is', async () => {
  const cli = await cluster()
  const away = { ...STATUS.datastore, connected: false, reason: 'no connection', confirmed: false }
  cli.status = { ...STATUS, datastore: { ...away, lastAnswerAt: null } }
  assert.match(
    (await cli.run('status')).out,
    /^Its datastore +not connected, no answer since the start: no connection$/m,
  )
  cli.status = { ...STATUS, datastore: { ...STATUS.datastore, confirmed: false } }
  assert.match(
    (await cli.run('status')).out,
    /^Its datastore +connected, cluster cluster-1, 12 commits, has not said yet who this node is$/m,
  )
})

test('twillctl that was not told where the datastore is says so, and goes by the connection of the daemon', async () => {
  const cli = await cluster()
  cli.status = STATUS
  const message = 'daemon at /run/twill/api.sock: its datastore is elsewhere, and twillctl was not told where'
  cli.store.failWith(new TwillError('store.unavailable', message, { elsewhere: true }))
  const { code, out } = await cli.run('status')
  assert.is(code, 0)
  assert.match(out, new RegExp(`^Datastore +not asked: ${message}$`, 'm'))
  cli.status = { ...STATUS, datastore: { ...STATUS.datastore, connected: false } }
  assert.is((await cli.run('status')).code, 1)
  cli.status = { ...STATUS, ready: false, reasons: ['no pool'] }
  assert.is((await cli.run('status')).code, 1)
})

test('not ready: exit code 1, with the reasons', async () => {
  const cli = await cluster()
  cli.status = { ...STATUS, ready: false, reasons: ['no pool', 'first reconcile not through'] }
  const { code, out } = await cli.run('status')
  assert.is(code, 1)
  assert.match(out, /^Ready +no: no pool; first reconcile not through$/m)
})

test('addresses that are lent to interfaces of other plugins', async () => {
  const cli = await cluster()
  const lease = { id: 'ipam-1', network: 'lan', containerId: 'c9', ifName: 'eth1', netns: '/run/netns/c9' }
  cli.status = { ...STATUS, leases: [{ ...lease, pod: null, addresses: ['10.50.0.2'] }] }
  const { out } = await cli.run('status')
  assert.match(
    out,
    /LEASE +ADDRESSES +INTERFACE +NETWORK +NAMESPACE\nc9 +10\.50\.0\.2 +eth1 +lan +\/run\/netns\/c9/,
  )
})

test('JSON carries both answers, or why there is none', async () => {
  const cli = await cluster()
  const both = JSON.parse((await cli.run('status', '-o', 'json')).out)
  assert.equal(both.daemon, { ...STATUS, error: null })
  assert.equal(both.datastore, {
    endpoints: ['http://etcd:2379'],
    clusterUid: 'cluster-1',
    nodes: [
      { name: 'node1', state: 'Registered' },
      { name: 'node2', state: 'Removed' },
    ],
    pools: [{ name: 'default', cidr: '10.244.0.0/16', state: 'Open' }],
    error: null,
  })
  cli.status = null
  cli.env = {}
  const neither = await cli.run('status', '-o', 'json')
  assert.is(neither.code, 1)
  const { daemon, datastore } = JSON.parse(neither.out)
  assert.match(daemon.error, 'no such socket')
  assert.match(datastore.error, 'for a datastore in etcd: --etcd-endpoints')
})

test('what others said tells the terminal nothing: control characters are shown, in JSON without another meaning', async () => {
  const twillctl = new Twillctl()
  twillctl.isTTY = true
  const [title, csi] = ['\x1b]0;owned\x07', '\x9b8m']
  const conditions = [{ type: 'Kubernetes', message: `502 ${title}${csi}\rgone` }]
  twillctl.status = { ...STATUS, conditions, pods: [{ ...STATUS.pods[0]!, containerId: title, pod: null }] }
  const { out } = await twillctl.run('status')
  assert.match(out, '502 \\u001b]0;owned\\u0007\\u009b8m\\u000dgone')
  assert.match(out, '\x1b[32m')
  assert.not.match(out.replaceAll(/\x1b\[3\dm/g, ''), /[\x00-\x08\x0b-\x1f\x7f-\x9f]/)
  const json = await twillctl.run('status', '-o', 'json')
  assert.not.match(json.out, /[\x00-\x08\x0b-\x1f\x7f-\x9f]/)
  assert.equal(JSON.parse(json.out).daemon.conditions, conditions)
  const { err } = await twillctl.run('get', `ippools${title}`)
  assert.not.match(err.replaceAll(/\x1b\[3\dm/g, ''), /[\x00-\x08\x0b-\x1f\x7f-\x9f]/)
})

test.run()
