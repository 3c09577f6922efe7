/**
 * The definitions in deploy/crds on a real API server: the same documents go through `twillctl apply`'s reader and through
 * the server. What one refuses the other refuses too, but for the mistakes that only a daemon can tell.
 */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { stringify } from 'yaml'
import { CUSTOM_KINDS } from '../../datastore/kubernetes/definitions/definitions.ts'
import { readDocuments } from '../../datastore/resources/documents.ts'
import type { IPPool } from '../../datastore/resources/ippool.ts'
import { completed } from '../../datastore/resources/kinds.ts'
import { updatedPool } from '../../ipam/pools.ts'
import { apiRequests } from '../fixtures/kubernetes/api-request.ts'
import { startApiServer } from '../fixtures/kubernetes/api-server.ts'
import { applyDefinitions } from '../fixtures/kubernetes/definitions.ts'

const API = '/apis/twill.network/v1alpha1'

const server = await startApiServer()
const requests = apiRequests(server)
test.after(async () => {
  requests.close()
  await server.stop()
})

interface Document {
  readonly apiVersion: string
  readonly kind: string
  readonly metadata: Record<string, unknown>
  readonly spec?: unknown
}

const document = (kind: string, spec?: unknown, metadata: object = {}): Document => ({
  apiVersion: 'twill.network/v1alpha1',
  kind,
  metadata: { name: 'a', ...metadata },
  ...(spec === undefined ? {} : { spec }),
})
const pool = (spec: object, cidr: unknown = '10.0.0.0/16') => document('IPPool', { cidr, ...spec })
const reservation = (...addresses: unknown[]) => document('IPReservation', { addresses })
const ipam = (spec: object, cidr?: string) => pool({ allowedUses: ['ipam'], ...spec }, cidr)
const selecting = (nodeSelector: unknown) => pool({ nodeSelector })
const expression = (each: object) => selecting({ matchExpressions: [{ key: 'zone', ...each }] })
const many = <T>(count: number, of: (i: number) => T): T[] => Array.from({ length: count }, (_, i) => of(i))

const GOOD: readonly (readonly [name: string, document: Document])[] = [
  ['IPv4', pool({})],
  ['IPv6', pool({}, 'fd00::/64')],
  ['IPv6 in groups', pool({}, 'fd00:0:0:1::/64')],
  ['a block as large as the pool', pool({ blockSize: 28 }, '10.0.0.0/28')],
  ['single addresses as blocks', pool({ blockSize: 128 }, 'fd00::/64')],
  ['a mode', pool({ mode: 'crossSubnet' })],
  ['what a mode stands for', pool({ encapsulation: 'Never', routes: 'BGP' })],
  ['exclusions', pool({ natOutgoingExclusions: ['10.1.0.0/16', '0.0.0.0/0'] })],
  ['no exclusions without masquerading', pool({ natOutgoing: false, natOutgoingExclusions: [] })],
  ['as many exclusions as can be', pool({ natOutgoingExclusions: many(256, i => `10.1.${i}.0/24`) })],
  ['an empty selector', selecting({})],
  [
    'labels',
    selecting({ matchLabels: { zone: 'a', 'example.com/rack': '', 'kubernetes.io/hostname': 'n.1' } }),
  ],
  ['as many labels as can be', selecting({ matchLabels: Object.fromEntries(many(32, i => [`l${i}`, 'x'])) })],
  ['values', expression({ operator: 'NotIn', values: ['a', ''] })],
  ['presence', expression({ operator: 'Exists' })],
  ['absence without values', expression({ operator: 'DoesNotExist', values: [] })],
  ['ipam', ipam({})],
  ['ipam with a gateway', ipam({ gateway: '10.0.0.6', blockSize: 29 }, '10.0.0.0/29')],
  ['a gateway at the end of IPv6', ipam({ gateway: 'fd00::ff', blockSize: 122 }, 'fd00::/120')],
  ['the smallest for ipam', ipam({ blockSize: 30 }, '10.0.0.4/30')],
  ['uses in any order', pool({ allowedUses: ['tunnel', 'pod'] })],
  ['addresses', reservation('10.0.0.5', 'fd00::1', '64:ff9b::1.2.3.4', '0.0.0.0')],
  ['prefixes', reservation('10.0.0.0/28', '0.0.0.0/0', 'fd00::/120', '::/0')],
  ['ranges', reservation('10.0.0.5-10.0.1.4', '10.0.0.5-10.0.0.5', '9.9.9.9-10.0.0.0', 'fd00::5-fd00::9')],
  ['as many addresses as can be', reservation(...many(512, i => `10.0.${i >> 8}.${i & 255}-10.0.9.9`))],
]

const BAD: readonly (readonly [name: string, document: Document])[] = [
  ['no spec', document('IPPool')],
  ['an empty spec', document('IPPool', {})],
  ['a spec that is text', document('IPPool', 'x')],
  ['a name in capitals', document('IPPool', { cidr: '10.0.0.0/16' }, { name: 'A' })],
  ['a label that is none', document('IPPool', { cidr: '10.0.0.0/16' }, { labels: { '-': 'x' } })],
  ['an unknown field', pool({ blocksize: 26 })],
  ['an unknown field below', selecting({ matchLabel: { a: 'b' } })],
  ['an unknown field beside spec', { ...pool({}), colour: 'red' } as Document],
  ['a number as prefix', pool({}, 10)],
  ['no length', pool({}, '10.0.0.0')],
  ['bits beyond the length', pool({}, '10.0.0.1/16')],
  ['bits beyond the length of IPv6', pool({}, 'fd00::1/64')],
  ['a length beyond the family', pool({}, '10.0.0.0/33')],
  ['a length with a zero in front', pool({}, '10.0.0.0/08')],
  ['leading zeros', pool({}, '010.0.0.0/8')],
  ['a zone', pool({}, 'fd00::%eth0/64')],
  ['dots in IPv6', pool({}, '64:ff9b::10.0.0.0/120')],
  ['IPv4 within IPv6', pool({}, '::ffff:10.0.0.0/104')],
  ['words', pool({}, 'ten')],
  ['a text without end', pool({}, `10.0.0.0/16${'0'.repeat(99)}`)],
  ['this network', pool({}, '0.0.0.0/16')],
  ['everything', pool({}, '0.0.0.0/0')],
  ['loopback', pool({}, '127.1.0.0/16')],
  ['around loopback', pool({}, '126.0.0.0/7')],
  ['link-local', pool({}, '169.254.0.0/20')],
  ['multicast', pool({}, '239.0.0.0/16')],
  ['embedded IPv4', pool({}, '::/96')],
  ['link-local IPv6', pool({}, 'fe80::/64')],
  ['multicast IPv6', pool({}, 'ff02::/64')],
  ['a small block size', pool({ blockSize: 12 })],
  ['a great block size', pool({ blockSize: 33 })],
  ["IPv4's block size with IPv6", pool({ blockSize: 26 }, 'fd00::/64')],
  ["IPv6's block size with IPv4", pool({ blockSize: 122 })],
  ['a block size in text', pool({ blockSize: '26' })],
  ['a broken block size', pool({ blockSize: 26.5 })],
  ['a slot larger than its pool', pool({ blockSize: 24 }, '10.0.0.0/25')],
  ['a slot larger than its pool by default', pool({}, '10.0.0.0/28')],
  ['a slot larger than its pool by default, IPv6', pool({}, 'fd00::/124')],
  ['a mode that is none', pool({ mode: 'ipip' })],
  ['a mode beside encapsulation', pool({ mode: 'bgp', encapsulation: 'Never' })],
  ['a mode beside routes', pool({ mode: 'bgp', routes: 'BGP' })],
  ['encapsulation that is none', pool({ encapsulation: 'Sometimes' })],
  ['routes that are none', pool({ routes: 'RIP' })],
  ['yes for true', pool({ natOutgoing: 'yes' })],
  ['exclusions that are no prefixes', pool({ natOutgoingExclusions: ['any'] })],
  ['exclusions with bits beyond', pool({ natOutgoingExclusions: ['10.1.0.1/16'] })],
  ['exclusions of the other family', pool({ natOutgoingExclusions: ['fd00::/8'] })],
  ['exclusions without masquerading', pool({ natOutgoing: false, natOutgoingExclusions: ['10.1.0.0/16'] })],
  ['exclusions of a pool for ipam', ipam({ natOutgoingExclusions: ['10.1.0.0/16'] })],
  ['too many exclusions', pool({ natOutgoingExclusions: many(257, i => `10.${i >> 8}.${i & 255}.0/24`) })],
  ['a selector in words', selecting("zone == 'a'")],
  ['a label name that is none', selecting({ matchLabels: { 'a b': 'x' } })],
  ['a label value that is none', selecting({ matchLabels: { a: 'x y' } })],
  ['a label value without end', selecting({ matchLabels: { a: 'x'.repeat(64) } })],
  ['too many labels', selecting({ matchLabels: Object.fromEntries(many(33, i => [`l${i}`, 'x'])) })],
  [
    'too many requirements',
    selecting({ matchExpressions: many(33, () => ({ key: 'a', operator: 'Exists' })) }),
  ],
  ['too many values', expression({ operator: 'In', values: many(65, String) })],
  ['an operator that is none', expression({ operator: 'Gt', values: ['1'] })],
  ['a requirement without operator', expression({})],
  ['a key that is none', selecting({ matchExpressions: [{ key: '/', operator: 'Exists' }] })],
  ['In without values', expression({ operator: 'In' })],
  ['NotIn of nothing', expression({ operator: 'NotIn', values: [] })],
  ['Exists with values', expression({ operator: 'Exists', values: ['a'] })],
  ['no use', pool({ allowedUses: [] })],
  ['a use twice', pool({ allowedUses: ['pod', 'pod'] })],
  ['a use that is none', pool({ allowedUses: ['service'] })],
  ['ipam and pods', pool({ allowedUses: ['pod', 'ipam'] })],
  ['ipam without room', ipam({ blockSize: 31 }, '10.0.0.0/31')],
  ['ipam without room, IPv6', ipam({ blockSize: 127 }, 'fd00::/127')],
  ['a gateway of a pool for pods', pool({ gateway: '10.0.0.1' })],
  ['a gateway elsewhere', ipam({ gateway: '10.1.0.1' })],
  ['a gateway of the other family', ipam({ gateway: 'fd00::1' })],
  ['a gateway that is no address', ipam({ gateway: 'router' })],
  ["the network's own address as gateway", ipam({ gateway: '10.0.0.0' })],
  ['the subnet-router address as gateway', ipam({ gateway: 'fd00::' }, 'fd00::/64')],
  ['the broadcast address as gateway', ipam({ gateway: '10.0.255.255' })],
  [
    'the broadcast address of a small pool as gateway',
    ipam({ gateway: '10.0.0.7', blockSize: 30 }, '10.0.0.4/30'),
  ],
  ['nothing reserved', reservation()],
  ['too much reserved', reservation(...many(513, i => `10.0.${i >> 8}.${i & 255}`))],
  ['a word reserved', reservation('router')],
  ['a number reserved', reservation(10)],
  ['a prefix with bits beyond', reservation('10.0.0.1/24')],
  ['a range downwards', reservation('10.0.0.9-10.0.0.5')],
  ['a range downwards by its first octet', reservation('10.0.0.0-9.9.9.9')],
  ['a range across families', reservation('10.0.0.5-fd00::1')],
  ['a range of three', reservation('10.0.0.1-10.0.0.2-10.0.0.3')],
  ['a range of one end', reservation('10.0.0.1-')],
  ['IPv4 reserved within IPv6', reservation('::ffff:10.0.0.1')],
  ['a reservation without list', document('IPReservation', {})],
]

/** Accepted by the server: a daemon tells. */
const ONLY_DAEMONS: readonly (readonly [name: string, document: Document])[] = [
  ['a range downwards in IPv6', reservation('fd00::9-fd00::5')],
  [
    'an annotation of ours that nobody reads',
    document('IPPool', { cidr: '10.0.0.0/16' }, { annotations: { 'twill.network/x': 'y' } }),
  ],
]

/** As `kubectl` asks unless told otherwise: what is unknown is refused. */
const STRICT = 'dryRun=All&fieldValidation=Strict'
const PLURAL: Readonly<Record<string, string>> = { IPPool: 'ippools', IPReservation: 'ipreservations' }

const refusedHere = (each: Document) =>
  readDocuments([{ name: 'f', text: stringify(each) }]).problems.length > 0

async function refusedThere(each: Document): Promise<boolean> {
  const { code, body } = await requests.send('POST', `${API}/${PLURAL[each.kind]}?${STRICT}`, each)
  assert.ok([201, 400, 422].includes(code), `${code}: ${body.message}`)
  return code !== 201
}

test('the API server takes the definitions, as structural ones', async () => {
  await applyDefinitions(server, requests)
  const conditions = await server.kubectl([
    ...['get', 'crd', '-o'],
    'jsonpath={.items[*].status.conditions[?(@.type=="NonStructuralSchema")].message}',
  ])
  assert.is(conditions, '')
})

test('what twillctl takes, the server takes', async () => {
  for (const [name, each] of GOOD) {
    assert.not(refusedHere(each), name)
    const { code, body } = await requests.send('POST', `${API}/${PLURAL[each.kind]}?${STRICT}`, each)
    assert.is(code, 201, `${name}: ${body.message}`)
  }
})

test('what twillctl refuses, the server refuses', async () => {
  for (const [name, each] of BAD) {
    assert.ok(refusedHere(each), `twillctl takes ${name}`)
    assert.ok(await refusedThere(each), `the server takes ${name}`)
  }
})

test('what only a daemon can tell', async () => {
  for (const [name, each] of ONLY_DAEMONS) {
    assert.ok(refusedHere(each), `twillctl takes ${name}`)
    assert.not(await refusedThere(each), `the server refuses ${name}: it belongs to the others`)
  }
})

/** Changes of the spec, and whether they are allowed. */
const CHANGES: readonly (readonly [name: string, before: Document, after: Document, allowed: boolean])[] = [
  ['another prefix', pool({}), pool({}, '10.1.0.0/16'), false],
  ['a longer prefix', pool({}), pool({}, '10.0.0.0/17'), false],
  ['the block size that is the default', pool({}), pool({ blockSize: 26 }), true],
  ['the default instead of the block size', pool({ blockSize: 26 }), pool({}), true],
  ['another block size', pool({}), pool({ blockSize: 27 }), false],
  ['the default instead of another block size', pool({ blockSize: 27 }), pool({}), false],
  ['for ipam now', pool({}), ipam({}), false],
  ['for ipam no longer', ipam({}), pool({}), false],
  ['fewer uses', pool({}), pool({ allowedUses: ['pod'] }), true],
  ['another gateway', ipam({ gateway: '10.0.0.9' }), ipam({ gateway: '10.0.0.8' }), false],
  ['the gateway that is the default', ipam({}), ipam({ gateway: '10.0.0.1' }), true],
  ['the default instead of the gateway', ipam({ gateway: '10.0.0.1' }), ipam({}), true],
  ['no longer that gateway', ipam({ gateway: '10.0.0.9' }), ipam({}), false],
  ['now that gateway', ipam({}), ipam({ gateway: '10.0.0.9' }), false],
  ['the default gateway of IPv6', ipam({}, 'fd00::/64'), ipam({ gateway: 'fd00::1' }, 'fd00::/64'), true],
  ['another travel', pool({}), pool({ mode: 'direct' }), true],
  ['closed for new pods', pool({}), pool({ disabled: true }), true],
  ['another selector', selecting({}), selecting({ matchLabels: { a: 'b' } }), true],
  ['other addresses', reservation('10.0.0.1'), reservation('fd00::1'), true],
]

test('what never changes cannot be changed, here and there', async () => {
  const read = (each: Document) =>
    completed(readDocuments([{ name: 'f', text: stringify(each) }]).resources[0]!.resource)
  for (const [name, before, after, allowed] of CHANGES) {
    const path = `${API}/${PLURAL[before.kind]}`
    if (before.kind === 'IPPool') {
      const change = () => updatedPool(read(before) as IPPool, read(after) as IPPool)
      if (allowed) assert.not.throws(change, name)
      else assert.throws(change, undefined, name)
    }
    const { body: stored } = await requests.send('POST', path, before)
    const { resourceVersion } = stored.metadata
    const changed = { ...after, metadata: { ...after.metadata, resourceVersion } }
    const { code, body } = await requests.send('PUT', `${path}/a?${STRICT}`, changed)
    assert.is(code, allowed ? 200 : 422, `${name}: ${body.message}`)
    await requests.send('DELETE', `${path}/a`)
  }
})

test('defaults are filled in as twillctl fills them in', async () => {
  const { body } = await requests.send('POST', `${API}/ippools?dryRun=All`, pool({}))
  assert.equal(body.spec, {
    allowedUses: ['pod', 'tunnel'],
    cidr: '10.0.0.0/16',
    disabled: false,
    natOutgoing: true,
  })
})

test('kubectl tells the field and what was expected, and refuses what is unknown', async () => {
  const apply = async (each: Document) => {
    try {
      return await server.kubectl(['apply', '-f', '-'], JSON.stringify(each))
    } catch (error) {
      return (error as Error).message
    }
  }
  assert.match(
    await apply(pool({ blockSize: 12 })),
    /spec\.blockSize: Invalid value: expected \/20 to \/32 for IPv4, \/116 to \/128 for IPv6/,
  )
  assert.match(await apply(pool({ blocksize: 26 })), /unknown field "spec\.blocksize"/)
  assert.match(await apply(pool({})), /created/)
  assert.match(
    await apply(pool({}, '10.9.0.0/16')),
    /spec\.cidr: .*10\.9\.0\.0\/16.*: expected 10\.0\.0\.0\/16: immutable/,
  )
})

test('kubectl lists them, by short names and by category', async () => {
  await server.kubectl(
    ['apply', '-f', '-'],
    JSON.stringify({ ...reservation('10.0.0.1'), metadata: { name: 'r' } }),
  )
  const pools = await server.kubectl(['get', 'pools', '-o', 'wide'])
  assert.match(pools, /^NAME +CIDR +BLOCK +.*ACCEPTED +REASON +AGE/)
  assert.match(pools, /\na +10\.0\.0\.0\/16 /)
  const all = await server.kubectl(['get', 'twill'])
  assert.match(all, /ippool\.twill\.network\/a/)
  assert.match(all, /ipreservation\.twill\.network\/r +\["10\.0\.0\.1"\]/)
})

test('every kind that operators write is tried here', () => {
  assert.equal(
    Object.keys(PLURAL),
    CUSTOM_KINDS.map(({ kind }) => kind),
  )
})

test.run()
