/**
 * The text of the rules against a golden file. After a wanted change: UPDATE_GOLDEN=1 npx tsx <this file>, and say in
 * the commit why it changed.
 */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type { Ruleset } from '../../../../kernel/kernel.ts'
import { endpointElements } from '../../../../routing/vxlan/elements.ts'
import { compileRules } from '../../../../routing/vxlan/rules.ts'
import { KUBE_PROXY_AND_PORTMAP, type RulesInput } from '../../../../routing/vxlan/rules-input.ts'
import { assertGolden } from '../../../fixtures/golden.ts'

// One of them inside another.
const EXCLUSIONS = ['192.0.2.128/25', '198.51.100.7/32', '192.0.2.0/24']

const input: RulesInput = {
  vtep: { port: 4789, devices: ['twill-vx4'] },
  endpoints: [
    {
      hostInterface: 'twl0123456789ab',
      podMac: '02:00:00:00:00:01',
      addresses: [
        { family: 4, address: '10.244.1.1' },
        { family: 6, address: 'fd00:10::1:1' },
      ],
    },
  ],
  pools: [
    { cidr: '10.244.0.0/16', natOutgoing: true, natExclusions: EXCLUSIONS, encapsulation: 'Always' },
    { cidr: '10.99.0.0/16', natOutgoing: false, natExclusions: [], encapsulation: 'Never' },
    { cidr: 'fd00:10::/64', natOutgoing: false, natExclusions: [], encapsulation: 'Always' },
  ],
  nodeAddresses: ['192.168.77.2', '192.168.77.1', 'fd77::1', '192.168.77.2'],
  peers: [
    // A tunnel address inside its part, as always.
    { underlay: ['192.168.77.2'], sources: ['10.244.2.1/32', '10.244.2.0/26', 'fd00:10::2:0/122'] },
  ],
  tunnel: { 4: '10.244.1.0', 6: 'fd00:10::1:0' },
  nodeSource: { 4: '192.168.77.1', 6: 'fd77::1' },
  masqueradeMarks: KUBE_PROXY_AND_PORTMAP,
}

function textOf({ chains, elements }: Ruleset): string {
  const sets = [...elements].map(([set, members]) => `${set}: ${[...members].join(', ') || '-'}`)
  return `${chains}\n${sets.map(line => `# ${line}`).join('\n')}\n`
}

test('the whole table', () => {
  assertGolden('overlay-rules.nft', textOf(compileRules(input)))
})

test('pods, pools, nodes and peers change elements, never a rule', () => {
  const { chains } = compileRules(input)
  const others: Partial<RulesInput>[] = [
    { endpoints: [] },
    { pools: [] },
    { nodeAddresses: [] },
    { peers: [] },
  ]
  for (const other of others) assert.is(compileRules({ ...input, ...other }).chains, chains)
})

test('the same facts in another order are the same ruleset', () => {
  const turned: RulesInput = {
    ...input,
    pools: [...input.pools].reverse(),
    nodeAddresses: [...input.nodeAddresses].reverse(),
    peers: [{ underlay: ['192.168.77.2'], sources: ['fd00:10::2:0/122', '10.244.2.0/26', '10.244.2.1/32'] }],
  }
  assert.is(textOf(compileRules(turned)), textOf(compileRules(input)))
})

test('no mark is ever written', () => {
  const { chains } = compileRules(input)
  assert.not.match(chains, /mark set/)
})

test('without a VTEP there are no rules about VXLAN, and its port is anybody else’s', () => {
  const { chains, elements } = compileRules({ ...input, vtep: null })
  assert.not.match(chains, /4789|@ih|twill-vx4|notrack/)
  assert.not.ok([...elements.keys()].some(name => name.startsWith('vtep')))
  assert.match(chains, /iifname "lo" accept\n {2}ip saddr @overlay4 counter drop/)
})

test('a family in which the node has no address gets no source translation', () => {
  const { chains } = compileRules({
    ...input,
    tunnel: { 4: '10.244.1.0' },
    nodeSource: { 4: '192.168.77.1' },
  })
  assert.match(chains, /snat ip to/)
  assert.not.match(chains, /snat ip6 to/)
})

test('marks that ask for masquerading can be turned off', () => {
  assert.not.match(compileRules({ ...input, masqueradeMarks: 0 }).chains, /meta mark/)
})

test('two nodes that bear one address for a moment join their sources', () => {
  const peers = [
    { underlay: ['192.168.77.2'], sources: ['10.244.2.0/26'] },
    { underlay: ['192.168.77.2'], sources: ['10.244.2.0/24', '10.244.4.0/26'] },
  ]
  const members = compileRules({ ...input, peers }).elements.get('vtep4_inner4')
  assert.equal(
    [...(members ?? [])],
    ['192.168.77.2 . 0x0af40200-0x0af402ff', '192.168.77.2 . 0x0af40400-0x0af4043f'],
  )
})

test('an IPv6 underlay has sets of its own', () => {
  const peers = [{ underlay: ['fd77::2'], sources: ['10.244.2.0/26', 'fd00:10::2:0/122'] }]
  const { elements } = compileRules({ ...input, peers })
  assert.equal([...(elements.get('vtep6_inner4') ?? [])], ['fd77::2 . 0x0af40200-0x0af4023f'])
  assert.is(elements.get('vtep6_inner6')?.size, 1)
  assert.is(elements.get('vtep4_inner4')?.size, 0)
})

test("an endpoint's elements are those of the whole", () => {
  const { elements } = compileRules(input)
  const own = endpointElements(input.endpoints[0]!)
  assert.is(own.length, 4)
  for (const { set, element } of own) assert.ok(elements.get(set)?.has(element), `${element} in ${set}`)
})

test('a fact that is no address is refused by name', () => {
  assert.throws(() => compileRules({ ...input, nodeAddresses: ['node1'] }), /node1/)
})

test.run()
