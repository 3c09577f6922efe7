/** NftTable against the real kernel, in a namespace of its own: what it notices, and what it leaves alone. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type { Ruleset } from '../../kernel/kernel.ts'
import { loadLibc } from '../../kernel/netlink/libc.ts'
import { NetlinkSocket } from '../../kernel/netlink/socket.ts'
import { type NftInterpreter, nftProcess, openLibrary } from '../../kernel/nft/interpreter.ts'
import { NftTable } from '../../kernel/nft/table.ts'
import { isTwillError } from '../../lib/errors.ts'
import { endpointElements } from '../../routing/vxlan/elements.ts'
import { compileRules } from '../../routing/vxlan/rules.ts'
import type { RulesInput } from '../../routing/vxlan/rules-input.ts'
import { enterFreshNamespace, run } from '../fixtures/netns-lab.ts'
import { INPUT } from '../fixtures/rules-lab.ts'

enterFreshNamespace()

const library = openLibrary()
if (library === null) throw new Error('libnftables.so.1 cannot be loaded')
const interpreter: NftInterpreter = library

const openTable = (nft: NftInterpreter = interpreter) =>
  new NftTable({}, { socket: new NetlinkSocket({ protocol: 12 }, { libc: loadLibc() }), interpreter: nft })

const rules = (input: Partial<RulesInput> = {}): Ruleset => compileRules({ ...INPUT, ...input })
const nft = (command: string, ...options: string[]) => run('nft', ...options, command)
/** Sets list their elements in an order of their own: sorted by line and by letter. */
const stateless = () =>
  nft('list table inet twill', '--stateless')
    .split(/[\n,]/)
    .map(line => line.replace(/elements = \{|\}$/g, '').trim())
    .sort()
    .join('\n')
const listing = () => nft('list table inet twill')
const pod = (number: number) => ({
  hostInterface: `twl${number.toString(16).padStart(12, '0')}`,
  podMac: '02:00:00:00:01:02',
  addresses: [
    { family: 4 as const, address: `10.244.9.${number}` },
    { family: 6 as const, address: `fd00:10::9:${number}` },
  ],
})

test('own changes leave the table intact', () => {
  const table = openTable()
  assert.not.ok(table.intact(), 'a table of which nothing is remembered is not trusted')
  table.replace(rules())
  assert.ok(table.intact())
  table.change({ add: endpointElements(pod(1)), remove: [] })
  assert.ok(table.intact())
  table.change({ add: endpointElements(pod(2)), remove: endpointElements(pod(1)) })
  assert.ok(table.intact())
  const text = listing()
  assert.ok(text.includes('"twl000000000002" . 10.244.9.2 . 02:00:00:00:01:02'))
  assert.ok(text.includes('"twl000000000002" . fd00:10::9:2 . 02:00:00:00:01:02'))
  assert.ok(
    text.includes('"twl000000000002" . 10.244.9.2 }') || text.includes('"twl000000000002" . 10.244.9.2,'),
  )
  assert.not.ok(text.includes('twl000000000001'))
})

test('a change twice is a change once', () => {
  const table = openTable()
  table.replace(rules())
  const elements = endpointElements(pod(3))
  for (const add of [elements, elements, [...elements, ...endpointElements(pod(4))]]) {
    table.change({ add, remove: [] })
    assert.ok(table.intact())
  }
  for (const remove of [elements, elements]) {
    table.change({ add: [], remove })
    assert.ok(table.intact())
  }
  assert.not.ok(listing().includes('twl000000000003'))
  assert.ok(listing().includes('twl000000000004'))
})

test('a changed MAC takes the place of the old one', () => {
  const table = openTable()
  table.replace(rules())
  const changed = { ...pod(5), podMac: '02:00:00:00:05:05' }
  table.change({ add: endpointElements(pod(5)), remove: [] })
  // The hairpin element is the same in both, and stays.
  table.change({ add: endpointElements(changed), remove: endpointElements(pod(5)) })
  assert.ok(listing().includes('10.244.9.5 . 02:00:00:00:05:05'))
  assert.not.ok(listing().includes('10.244.9.5 . 02:00:00:00:01:02'))
  assert.equal(listing().match(/"twl000000000005" \. 10\.244\.9\.5/g)?.length, 2)
  assert.ok(table.intact())
})

for (const [what, damage] of [
  ['a flushed chain', 'flush chain inet twill from_pod'],
  ['a foreign rule', 'insert rule inet twill from_pod accept'],
  ['a foreign chain', 'add chain inet twill foreign'],
  ['a changed policy', 'add chain inet twill input { policy drop; }'],
  ['a flushed set', 'flush set inet twill endpoints4'],
  ['a foreign element', 'add element inet twill endpoints4 { "twlx" . 10.244.1.9 . 02:00:00:00:00:09 }'],
  [
    'an exchanged element',
    'delete element inet twill nodes4 { 192.168.77.3 }; add element inet twill nodes4 { 192.168.77.9 }',
  ],
  ['a foreign interval', 'add element inet twill overlay4 { 192.0.2.0/24 }'],
  ['a deleted interval', 'delete element inet twill overlay4 { 10.244.0.0/16 }'],
  ['a deleted tunnel source', 'flush set inet twill vtep4_inner4'],
  ['a dormant table', 'add table inet twill { flags dormant; }'],
  ['a deleted table', 'delete table inet twill'],
] as const)
  test(`${what} is seen and put right`, () => {
    const table = openTable()
    table.replace(rules())
    const sound = stateless()
    nft(damage)
    assert.not.ok(table.intact())
    table.replace(rules())
    assert.ok(table.intact())
    assert.is(stateless(), sound)
  })

test('damage is seen also when our own changes follow it', () => {
  const table = openTable()
  table.replace(rules())
  nft('insert rule inet twill from_pod accept')
  table.change({ add: endpointElements(pod(6)), remove: [] })
  assert.not.ok(table.intact())
  table.replace(rules())
  nft('delete element inet twill overlay4 { 10.244.0.0/16 }')
  table.change({ add: [{ set: 'overlay4', element: '198.51.100.0/24' }], remove: [] })
  assert.not.ok(table.intact(), 'what is read back after a change is not taken for ours')
})

test('a change that changes nothing does not hide the damage after it', () => {
  const table = openTable()
  table.replace(rules())
  const elements = endpointElements(pod(6))
  table.change({ add: elements, remove: [] })
  table.change({ add: elements, remove: [] })
  nft('insert rule inet twill from_pod accept')
  assert.not.ok(table.intact())
})

test("others' tables do not concern us", () => {
  const table = openTable()
  table.replace(rules())
  nft('add table ip foreign; add chain ip foreign c; add rule ip foreign c counter')
  assert.ok(table.intact())
  table.change({ add: endpointElements(pod(7)), remove: [] })
  assert.ok(table.intact())
  nft('add chain ip foreign d')
  assert.ok(table.intact(), 'compared, and found as we left it')
  nft('delete chain ip foreign d')
  table.change({ add: [{ set: 'overlay4', element: '198.51.100.0/24' }], remove: [] })
  assert.ok(table.intact())
  table.change({ add: [], remove: [{ set: 'overlay4', element: '198.51.100.0/24' }] })
  nft('delete table ip foreign')
  table.change({ add: [], remove: endpointElements(pod(7)) })
  assert.ok(table.intact())
})

test('elements are exchanged without touching rules and counters', () => {
  const table = openTable()
  table.replace(rules())
  const handles = () => nft('list table inet twill', '--handle', '--terse').match(/# handle \d+/g)
  const before = handles()
  const peers = [
    ...INPUT.peers,
    { underlay: ['192.168.77.4'], sources: ['10.244.4.0/26', 'fd00:10::4:0/122'] },
  ]
  table.replace(rules({ peers, nodeAddresses: [...INPUT.nodeAddresses, '192.168.77.4'] }))
  assert.equal(handles(), before)
  assert.ok(listing().includes('192.168.77.4 . 0xaf40400-0xaf4043f'))
  assert.ok(table.intact())
  // A part splits: the ranges overlap, old and new.
  const split = [{ underlay: ['192.168.77.2'], sources: ['10.244.2.0/27', '10.244.2.48/28'] }]
  table.replace(rules({ peers: split }))
  assert.ok(table.intact())
  assert.equal(handles(), before)
  assert.not.ok(listing().includes('192.168.77.4'))
  assert.ok(listing().includes('0xaf40230-0xaf4023f'))
})

test('a new process replaces what it finds', () => {
  openTable().replace(rules({ endpoints: [pod(8)] }))
  const table = openTable()
  table.change({ add: endpointElements(pod(9)), remove: [] })
  assert.ok(listing().includes('twl000000000009'), 'changes need no replacement first')
  assert.not.ok(table.intact())
  table.replace(rules({ endpoints: [pod(10)] }))
  assert.ok(table.intact())
  assert.not.ok(listing().includes('twl000000000008'))
  assert.ok(listing().includes('twl00000000000a'))
})

test('a new process keeps the chains and sets that it finds, so that no packet meets none', () => {
  openTable().replace(rules())
  nft('add rule inet twill forward drop')
  nft('add element inet twill nodes4 { 198.51.100.99 }')
  const handles = () =>
    [
      ...nft('list table inet twill', '--handle').matchAll(/(table inet|chain|set) \S+ \{ # handle \d+/g),
    ].join()
  const before = handles()
  openTable().replace(rules())
  assert.is(handles(), before)
  assert.not.match(listing(), /198\.51\.100\.99/)
  assert.not.match(nft('list chain inet twill forward'), /^\s*drop$/m)
})

test("another version's chains and sets go", () => {
  const table = openTable()
  table.replace(rules())
  nft('add chain inet twill before')
  nft('add set inet twill of_old { type ipv4_addr; }')
  openTable().replace(rules())
  assert.not.match(listing(), /before|of_old/)
  nft('delete table inet twill')
  nft('add table inet twill')
  for (const chain of ['prerouting', 'output'])
    nft(`add chain inet twill ${chain} { type filter hook forward priority 7; policy drop; }`)
  openTable().replace(rules())
  assert.not.match(listing(), /priority 7/)
})

test('failures name what is wrong and change nothing', () => {
  const table = openTable()
  table.replace(rules())
  const sound = listing()
  assert.throws(
    () =>
      table.change({
        add: [{ set: 'endpoints4', element: '"twlx" . fd00::1 . 02:00:00:00:00:01' }],
        remove: [],
      }),
    (error: unknown) => isTwillError(error, 'internal'),
  )
  assert.throws(
    () => table.change({ add: [{ set: 'nowhere', element: '10.0.0.1' }], remove: [] }),
    (error: unknown) => isTwillError(error, 'kernel.failed') && error.data.errno === 'ENOENT',
  )
  assert.throws(
    () => table.replace({ chains: `${rules().chains}\nchain broken { nonsense }`, elements: new Map() }),
    (error: unknown) => isTwillError(error, 'kernel.failed') && /syntax error/.test(error.message),
  )
  assert.is(listing(), sound)
  assert.ok(table.intact())
  nft('delete table inet twill')
  assert.throws(
    () => table.change({ add: endpointElements(pod(1)), remove: [] }),
    (error: unknown) => isTwillError(error, 'kernel.failed') && error.data.errno === 'ENOENT',
  )
  table.change({ add: [], remove: endpointElements(pod(1)) })
  assert.not.ok(table.intact())
})

test('the program does what the library does', () => {
  openTable().replace(rules())
  const sound = stateless()
  nft('delete table inet twill')
  const table = openTable(nftProcess())
  table.replace(rules())
  assert.is(stateless(), sound)
  assert.ok(table.intact())
  assert.throws(
    () => nftProcess().run('nonsense'),
    (error: unknown) => isTwillError(error, 'kernel.failed') && /syntax error/.test(error.message),
  )
})

test('a thousand elements that are there already hide no damage, and are no damage', () => {
  const table = openTable()
  table.replace(rules())
  const many = Array.from({ length: 400 }, (_, i) =>
    endpointElements({ ...pod(7), addresses: [{ family: 4, address: `10.244.${8 + (i >> 8)}.${i & 255}` }] }),
  ).flat()
  for (const _ of [1, 2]) {
    table.change({ add: many, remove: [] })
    assert.ok(table.intact())
  }
  run('nft', 'flush', 'set', 'inet', 'twill', 'endpoints4')
  assert.not.ok(table.intact())
})

test('what is taken out and put in again by one change is in', () => {
  const table = openTable()
  table.replace(rules())
  const elements = endpointElements(pod(6))
  table.change({ add: elements, remove: [] })
  table.change({ add: elements, remove: elements })
  assert.ok(listing().includes('twl000000000006'))
  assert.ok(table.intact())
})

test('a thousand elements change in one transaction', () => {
  const table = openTable()
  table.replace(rules())
  const many = Array.from({ length: 250 }, (_, i) => pod(i + 1)).flatMap(endpointElements)
  table.change({ add: many, remove: [] })
  assert.ok(table.intact())
  assert.equal(listing().match(/"twl0000000000[0-9a-f]{2}" \. 10\.244/g)?.length, 500)
  table.change({ add: [], remove: many })
  assert.ok(table.intact())
  assert.not.ok(listing().includes('"twl00000000000'))
})

test.run()
