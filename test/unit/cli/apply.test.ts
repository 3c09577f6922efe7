/** twillctl apply: created, configured, unchanged; nothing applied when anything is wrong; conflicts and lost answers. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { TwillError } from '../../../lib/errors.ts'
import { Twillctl } from '../../fixtures/twillctl.ts'

const POOL = `apiVersion: twill.network/v1alpha1
kind: IPPool
metadata:
  name: default
spec:
  cidr: 10.244.0.0/16
`
const NODE = `apiVersion: twill.network/v1alpha1
kind: Node
metadata:
  name: node1
  labels:
    zone: a
`

function withFiles(files: Record<string, string>): Twillctl {
  const cli = new Twillctl()
  for (const [path, text] of Object.entries(files)) cli.files.set(path, text)
  return cli
}

test('creates, then finds unchanged, then brings up to date', async () => {
  const cli = withFiles({ 'a.yaml': `${POOL}---\n${NODE}` })
  assert.equal(await cli.run('apply', '-f', 'a.yaml'), {
    code: 0,
    out: 'IPPool default created\nNode node1 created\n',
    err: '',
  })
  assert.is((await cli.run('apply', '-f', 'a.yaml')).out, 'IPPool default unchanged\nNode node1 unchanged\n')
  cli.files.set('a.yaml', `${POOL}  natOutgoing: false\n---\n${NODE.replace('zone: a', 'zone: b')}`)
  assert.is(
    (await cli.run('apply', '-f', 'a.yaml')).out,
    'IPPool default configured\nNode node1 configured\n',
  )
  const node = (await cli.record('resources/nodes/node1')) as { metadata: Record<string, unknown> }
  assert.equal(node.metadata.labels, { zone: 'b' })
  assert.is(node.metadata.creationTimestamp, '2026-01-02T03:04:05.000Z')
  const pool = (await cli.record('resources/ippools/default')) as { spec: { natOutgoing: boolean } }
  assert.is(pool.spec.natOutgoing, false)
})

test('uid and creation time survive an update', async () => {
  const cli = withFiles({ 'n.yaml': NODE })
  await cli.run('apply', '-f', 'n.yaml')
  const before = (await cli.record('resources/nodes/node1')) as { metadata: { uid: string } }
  cli.files.set('n.yaml', NODE.replace('zone: a', 'zone: b'))
  await cli.run('apply', '-f', 'n.yaml')
  const after = (await cli.record('resources/nodes/node1')) as { metadata: { uid: string } }
  assert.is(after.metadata.uid, before.metadata.uid)
  assert.ok(before.metadata.uid.length > 0)
})

test('a pool enters the address space before it exists', async () => {
  const cli = withFiles({ 'p.yaml': POOL })
  await cli.run('apply', '-f', 'p.yaml')
  const space = (await cli.record('address-space')) as { pools: { uid: string; cidr: string }[] }
  const pool = (await cli.record('resources/ippools/default')) as { metadata: { uid: string } }
  assert.is(space.pools[0]?.cidr, '10.244.0.0/16')
  assert.is(space.pools[0]?.uid, pool.metadata.uid)
})

test('what get prints as YAML is taken back unchanged', async () => {
  const cli = withFiles({ 'a.yaml': `${POOL}---\n${NODE}` })
  await cli.run('apply', '-f', 'a.yaml')
  for (const kind of ['ippools', 'nodes']) {
    cli.files.set('-', (await cli.run('get', kind, '-o', 'yaml')).out)
    assert.match((await cli.run('apply', '-f', '-')).out, /unchanged\n$/)
  }
})

test('nothing is applied when any document of any file is wrong, and every mistake is told', async () => {
  const cli = withFiles({
    'good.yaml': NODE,
    'bad.yaml': POOL.replace('10.244.0.0/16', '10.244.0.1/16'),
    'worse.yaml': `${NODE}  zone: a\n---\nkind: Pod\n`,
  })
  const { code, out, err } = await cli.run('apply', '-f', 'good.yaml', '-f', 'bad.yaml', '-f', 'worse.yaml')
  assert.is(code, 1)
  assert.is(out, '')
  assert.equal(err.trimEnd().split('\n'), [
    'error: bad.yaml: document 1, line 6: spec.cidr: "10.244.0.1/16": expected no bits set beyond the length: 10.244.0.0/16',
    'error: worse.yaml: document 1, line 7: metadata.zone: "a": unknown field, expected one of name, uid, creationTimestamp, deletionTimestamp, labels, annotations',
    'error: worse.yaml: document 2, line 9: apiVersion: missing: expected twill.network/v1alpha1',
    'error: worse.yaml: document 2, line 9: kind: "Pod": expected one of IPPool, IPReservation, Namespace, Node',
  ])
  assert.equal(cli.opened, [])
})

test('the same resource in two files is refused', async () => {
  const cli = withFiles({ 'a.yaml': NODE, 'b.yaml': NODE })
  const { code, err } = await cli.run('apply', '-f', 'a.yaml', '-f', 'b.yaml')
  assert.is(code, 1)
  assert.is(
    err,
    'error: b.yaml: document 1, line 1: metadata.name: "node1": expected one Node node1, the first is in a.yaml: document 1, line 1\n',
  )
})

test('a file that cannot be read is named', async () => {
  const { code, err } = await withFiles({}).run('apply', '-f', 'none.yaml')
  assert.is(code, 1)
  assert.match(err, /^error: none.yaml: cannot be read: ENOENT/)
})

test('immutable fields are named with what they are', async () => {
  const cli = withFiles({ 'p.yaml': POOL })
  await cli.run('apply', '-f', 'p.yaml')
  cli.files.set('p.yaml', POOL.replace('10.244', '10.245'))
  assert.equal(await cli.run('apply', '-f', 'p.yaml'), {
    code: 1,
    out: '',
    err: 'error: p.yaml: document 1, line 1: IPPool default: spec.cidr: "10.245.0.0/16": expected "10.244.0.0/16": immutable\n',
  })
  cli.files.set('p.yaml', `${POOL}  blockSize: 28\n`)
  assert.match((await cli.run('apply', '-f', 'p.yaml')).err, 'spec.blockSize: 28: expected 26: immutable')
  cli.files.set('p.yaml', `${POOL}  blockSize: 26\n`)
  assert.is((await cli.run('apply', '-f', 'p.yaml')).out, 'IPPool default unchanged\n')
})

test('a uid of another resource, or of none, is refused', async () => {
  const cli = withFiles({ 'n.yaml': NODE.replace('name: node1', 'name: node1\n  uid: other') })
  assert.match((await cli.run('apply', '-f', 'n.yaml')).err, 'metadata.uid: "other": expected none')
  cli.files.set('ok.yaml', NODE)
  await cli.run('apply', '-f', 'ok.yaml')
  const { err, code } = await cli.run('apply', '-f', 'n.yaml')
  assert.is(code, 1)
  assert.match(err, 'metadata.uid: "other": expected "id-1": immutable')
})

test('an overlapping pool is refused by name, and nothing is applied', async () => {
  const cli = withFiles({ 'a.yaml': POOL, 'b.yaml': POOL.replace('default', 'other').replace('/16', '/20') })
  await cli.run('apply', '-f', 'a.yaml')
  cli.files.set('n.yaml', NODE)
  const { code, out, err } = await cli.run('apply', '-f', 'b.yaml', '-f', 'n.yaml')
  assert.is(code, 1)
  assert.is(out, '')
  assert.is(await cli.record('resources/nodes/node1'), null)
  assert.match(
    err,
    /^error: b.yaml: document 1, line 1: IPPool other \(10.244.0.0\/20\) .* IPPool default \(10.244.0.0\/16\)\n$/,
  )
  assert.is(await cli.record('resources/ippools/other'), null)
})

test('a pool over the address of a node is refused before anything is applied, one of the IPAM plugin is not', async () => {
  const record = { v: 1, name: 'n', uid: 'u', incarnation: 'b', hostAddresses: [], vteps: [], tunnel: {} }
  const lan = `${POOL.replace('default', 'lan').trimEnd()}\n  allowedUses: [ipam]\n`
  const cli = withFiles({ 'a.yaml': `${NODE}---\n${POOL}`, 'lan.yaml': lan })
  await cli.put('nodes/n', { ...record, underlay: { 4: '10.244.3.4' } })
  const { code, err } = await cli.run('apply', '-f', 'a.yaml')
  assert.is(code, 1)
  assert.match(err, /IPPool default \(10\.244\.0\.0\/16\) covers 10\.244\.3\.4, the address of node n\n$/)
  assert.is(await cli.record('resources/nodes/node1'), null)
  assert.is((await cli.run('apply', '-f', 'lan.yaml')).code, 0)
})

test('what the store would refuse is told at once, in the order of the files, and nothing is applied', async () => {
  const cli = withFiles({ 'a.yaml': POOL, 'd.yaml': NODE })
  await cli.run('apply', '-f', 'a.yaml')
  await cli.put('resources/nodes/node1', '{')
  const renamed = (name: string, cidr: string) =>
    POOL.replace('default', name).replace('10.244.0.0/16', cidr).trimEnd()
  cli.files.set(
    'b.yaml',
    [
      renamed('one', '10.1.0.0/16'),
      `${renamed('default', '10.0.0.0/9')}\n  blockSize: 28`,
      renamed('two', '10.1.2.0/24'),
    ].join('\n---\n'),
  )
  const { code, out, err } = await cli.run('apply', '-f', 'b.yaml', '-f', 'd.yaml')
  assert.equal([code, out], [1, ''])
  assert.equal(
    err
      .trimEnd()
      .split('\n')
      .map(line => line.replace('error: ', '')),
    [
      'b.yaml: document 2, line 8: IPPool default: spec.cidr: "10.0.0.0/9": expected "10.244.0.0/16": immutable',
      'b.yaml: document 2, line 8: IPPool default: spec.blockSize: 28: expected 26: immutable',
      'b.yaml: document 3, line 16: IPPool two (10.1.2.0/24) collides with IPPool one (10.1.0.0/16)',
      'd.yaml: document 1, line 1: Node node1: record resources/nodes/node1 is damaged: not JSON',
    ],
  )
  assert.is(await cli.record('resources/ippools/one'), null)
})

test('a pool that overlaps after all, by somebody who was quicker, keeps no other from being applied', async () => {
  const cli = withFiles({ 'a.yaml': `${POOL}---\n${NODE}` })
  const commit = cli.store.commit.bind(cli.store)
  cli.store.commit = async asked => {
    cli.store.commit = commit
    await cli.put('address-space', {
      v: 1,
      pools: [{ uid: 'theirs', name: 'quicker', cidr: '10.244.0.0/20', blockSize: 26, state: 'open' }],
      restored: null,
    })
    return commit(asked)
  }
  const { code, out, err } = await cli.run('apply', '-f', 'a.yaml')
  assert.equal([code, out], [1, 'Node node1 created\n'])
  assert.match(err, /^error: a.yaml: document 1, line 1: IPPool default .* IPPool quicker/)
})

test('mistakes stand in the order of the lines, those between documents too', async () => {
  const cli = withFiles({
    'a.yaml': NODE,
    'b.yaml': `${NODE}---\n${POOL}  natoutgoing: 1\n  blockSize: 12\n---\n${NODE}---\nkind: Pod\n`,
  })
  const { err } = await cli.run('apply', '-f', 'a.yaml', '-f', 'b.yaml')
  const places = err.split('\n').map(line => /document \d, line (\d+): (\S+):/.exec(line)?.slice(1).join(' '))
  assert.equal(places, [
    '1 metadata.name',
    '14 spec.natoutgoing',
    '15 spec.blockSize',
    '17 metadata.name',
    '24 apiVersion',
    '24 kind',
    undefined,
  ])
})

for (const doubt of ['landed', 'lost'] as const)
  test(`a create whose answer is lost (${doubt}) is reported as created, once`, async () => {
    const cli = withFiles({ 'n.yaml': NODE })
    cli.store.doubtNext(doubt)
    assert.equal(await cli.run('apply', '-f', 'n.yaml'), { code: 0, out: 'Node node1 created\n', err: '' })
    assert.equal(((await cli.record('resources/nodes/node1')) as { metadata: object }).metadata, {
      name: 'node1',
      uid: 'id-1',
      creationTimestamp: '2026-01-02T03:04:05.000Z',
      labels: { zone: 'a' },
    })
  })

test('another writer in between is seen: configured, with the uid it gave', async () => {
  const cli = withFiles({ 'n.yaml': NODE })
  const theirs = {
    apiVersion: 'twill.network/v1alpha1',
    kind: 'Node',
    metadata: { name: 'node1', uid: 'theirs', creationTimestamp: '2020-01-01T00:00:00Z' },
    spec: {},
  }
  const commit = cli.store.commit.bind(cli.store)
  cli.store.commit = async asked => {
    cli.store.commit = commit
    await cli.put('resources/nodes/node1', theirs)
    return commit(asked)
  }
  assert.is((await cli.run('apply', '-f', 'n.yaml')).out, 'Node node1 configured\n')
  const { metadata } = (await cli.record('resources/nodes/node1')) as { metadata: { uid: string } }
  assert.is(metadata.uid, 'theirs')
})

test('a store that is away ends the command with one line', async () => {
  const cli = withFiles({ 'a.yaml': `${POOL}---\n${NODE}` })
  cli.store.failWith(new TwillError('store.unavailable', 'etcd at http://etcd:2379: no connection'))
  assert.equal(await cli.run('apply', '-f', 'a.yaml'), {
    code: 1,
    out: '',
    err: 'error: etcd at http://etcd:2379: no connection\n',
  })
})

test('a stored resource that is damaged is not overwritten', async () => {
  const cli = withFiles({ 'n.yaml': NODE })
  await cli.put('resources/nodes/node1', '{"kind":')
  const { code, err } = await cli.run('apply', '-f', 'n.yaml')
  assert.is(code, 1)
  assert.match(err, 'record resources/nodes/node1 is damaged')
  assert.is((await cli.store.get('resources/nodes/node1')).entry?.value, '{"kind":')
})

test('the store is closed, also after a failure', async () => {
  const cli = withFiles({ 'n.yaml': NODE })
  await cli.run('apply', '-f', 'n.yaml')
  cli.store.failWith(new TwillError('store.unavailable', 'away'))
  await cli.run('apply', '-f', 'n.yaml')
  assert.is(cli.closed, 2)
})

test.run()
