/** twillctl on the nodes of a real cluster: what daemons wrote is read, and what it writes, daemons heed. */
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'

const ROOT = join(import.meta.dirname, '../..')
const TWILLCTL = join(ROOT, 'dist/bin/twillctl')
const RIG = `twg-${process.pid}`

const test = suite('twillctl on a cluster')

function cluster(words: readonly string[], input = '') {
  const env = { ...process.env, TWILL_CLUSTER: RIG }
  const ran = spawnSync(join(ROOT, 'hack/cluster'), words, { env, encoding: 'utf8', input })
  return { code: ran.status, out: ran.stdout, err: ran.stderr }
}

const twillctl = (argv: readonly string[], input = '') =>
  cluster(['exec', 'node1', '--', TWILLCTL, ...argv], input)

function rig(...words: string[]): string {
  const { code, out, err } = cluster(words)
  assert.is(code, 0, `hack/cluster ${words.join(' ')}: ${err}`)
  return out
}

const pool = (name: string, cidr: string) =>
  `apiVersion: twill.network/v1alpha1\nkind: IPPool\nmetadata: {name: ${name}}\nspec: {cidr: "${cidr}"}\n`

const down = () => {
  cluster(['down'])
}
process.on('exit', down)

test.before(() => {
  assert.ok(existsSync(TWILLCTL), `${TWILLCTL}: expected a build (npm run build)`)
  rig('up', '--nodes', '2')
})
test.after(down)

test('status on a node: nothing to configure, both answer, ready', () => {
  const { code, out, err } = twillctl(['status'])
  assert.equal([code, err], [0, ''])
  assert.match(out, /^Ready +yes$/m)
  assert.match(out, /^Underlay IPv4 +192\.168\.77\.\d+ on \S+, MTU \d+: .+/m)
  assert.match(out, /^Nodes +node1, node2$/m)
})

test('get nodes: both registered, with underlay and tunnel addresses of both families', () => {
  const { code, out } = twillctl(['get', 'nodes', '-o', 'json'])
  assert.is(code, 0)
  const nodes = JSON.parse(out) as { status: { state: string; underlay: string[]; tunnel: string[] } }[]
  assert.is(nodes.length, 2)
  for (const { status } of nodes) {
    assert.is(status.state, 'Registered')
    assert.equal([status.underlay.length, status.tunnel.length], [2, 2])
  }
})

test('a pod shows in status and in the fill of its pool, and keeps the pool from being deleted', () => {
  const [address = ''] = rig('pod', 'add', 'node1', 'web').split('\n')
  assert.match(twillctl(['status']).out, new RegExp(`^default/web +${address.replaceAll('.', '\\.')}`, 'm'))
  const pools = JSON.parse(twillctl(['get', 'ippools', '-o', 'json']).out) as {
    metadata: { name: string }
    status: { held: number; nodes: number }
  }[]
  assert.ok(pools.every(({ status }) => status.held > 0 && status.nodes === 2))
  const name = pools[0]?.metadata.name ?? ''
  const refused = twillctl(['delete', 'ippool', name])
  assert.is(refused.code, 1)
  assert.match(refused.err, 'in use')
  assert.match(twillctl(['get', 'ippool', name]).out, 'Open')
})

test('another pool: created, refused when it overlaps, deleted', () => {
  const created = twillctl(['apply', '-f', '-'], pool('more', '10.200.0.0/24'))
  assert.equal([created.code, created.out], [0, 'IPPool more created\n'])
  const overlapping = twillctl(['apply', '-f', '-'], pool('less', '10.200.0.128/25'))
  assert.is(overlapping.code, 1)
  assert.match(overlapping.err, 'IPPool more')
  const deleted = twillctl(['delete', 'ippool', 'more'])
  assert.equal([deleted.code, deleted.out], [0, 'IPPool more deleted\n'], deleted.err)
})

test('a living node is not removed; a silent one is, and comes back with its addresses', () => {
  const alive = twillctl(['delete', 'node', 'node2'])
  assert.is(alive.code, 1)
  assert.match(alive.err, 'error: Node node2: alive')
  rig('daemon', 'stop', 'node2')
  const silent = twillctl(['delete', 'node', 'node2'])
  assert.is(silent.code, 0, silent.err)
  assert.match(twillctl(['get', 'nodes']).out, /^node2 +Removed/m)
  rig('daemon', 'start', 'node2')
  assert.match(rig('pod', 'add', 'node2', 'again'), /^10\.244\./)
  assert.match(twillctl(['get', 'nodes']).out, /^node2 +Registered/m)
})

test.run()
