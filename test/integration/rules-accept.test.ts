/** Accept chains in the real filter tables of iptables, legacy and nft, and conntrack's real table. */
import { execFileSync } from 'node:child_process'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { flushConntrack } from '../../kernel/conntrack/flush.ts'
import { AcceptChains } from '../../kernel/iptables/accept-chains.ts'
import { glanceAtLegacy } from '../../kernel/iptables/legacy-glance.ts'
import type { AcceptChain } from '../../kernel/kernel.ts'
import { loadLibc } from '../../kernel/netlink/libc.ts'
import { NetlinkSocket } from '../../kernel/netlink/socket.ts'
import { parseIp } from '../../lib/address.ts'
import { udp } from '../fixtures/frames.ts'
import { run } from '../fixtures/netns-lab.ts'
import { buildLab, encapsulated, fromPod, PEER, POD } from '../fixtures/rules-lab.ts'

const lab = buildLab()
const libc = loadLibc()
const socket = new NetlinkSocket({ protocol: 12 }, { libc })
const open = () => new AcceptChains({}, { socket })

const CHAINS: AcceptChain[] = [
  {
    hook: 'forward',
    family: 4,
    matches: [
      ['-i', 'twl+'],
      ['-o', 'twl+'],
      ['-i', 'twill-vx4'],
      ['-o', 'twill-vx4'],
    ],
  },
  {
    hook: 'forward',
    family: 6,
    matches: [
      ['-i', 'twl+'],
      ['-o', 'twl+'],
    ],
  },
  { hook: 'input', family: 4, matches: [['-p', 'udp', '--dport', '4789']] },
]

function packets() {
  let count = 0
  return (send: (mark: Buffer) => void, at: typeof lab.a, waitMs: number) => {
    const mark = Buffer.from(`accept-${++count}-${process.pid}`)
    send(mark)
    return at.receive(mark, waitMs) !== null
  }
}
const arrives = packets()
const podToPod = (waitMs: number) =>
  arrives(mark => lab.a.send(fromPod('a', POD.a.v4, POD.b.v4, udp(1, 2, mark))), lab.b, waitMs)
const tunnelToPod = (waitMs: number) =>
  arrives(mark => lab.peer.send(encapsulated(PEER.v4, PEER.pod4, POD.a.v4, udp(1, 2, mark))), lab.a, waitMs)

test('where nothing drops, nothing is made', () => {
  assert.equal(open().ensure(CHAINS), { changed: [] })
  assert.equal(open().foreignFilters(), [])
  assert.is(glanceAtLegacy(libc), '')
  // Looking must not have hooked a legacy table in.
  assert.not.match(run('cat', '/proc/thread-self/net/ip_tables_names'), /filter/)
  assert.is(run('nft', 'list', 'tables').trim(), '')
})

for (const variant of ['legacy', 'nft'] as const) {
  const iptables = `iptables-${variant}`
  const rules = (program = iptables) => run(program, '-S').split('\n')

  test(`${variant}: packets pass where policies drop, and others' rules stay`, () => {
    run(iptables, '-P', 'FORWARD', 'DROP')
    run(iptables, '-P', 'INPUT', 'DROP')
    run(iptables, '-A', 'FORWARD', '-i', 'eth9', '-j', 'ACCEPT')
    assert.not.ok(podToPod(150))
    assert.not.ok(tunnelToPod(150))
    const chains = open()
    assert.equal(chains.ensure(CHAINS), { changed: [`${iptables} FORWARD`, `${iptables} INPUT`] })
    assert.ok(podToPod(3000))
    assert.ok(tunnelToPod(3000))
    assert.ok(rules().includes('-A FORWARD -i eth9 -j ACCEPT'))
    assert.equal(chains.ensure(CHAINS), { changed: [] })
    assert.equal(open().ensure(CHAINS), { changed: [] }, 'a new process finds it as it should be')
    assert.equal(chains.foreignFilters(), [], 'what we reach is not foreign')
  })

  for (const [what, damage] of [
    ['an emptied chain', ['-F', 'TWILL-FORWARD']],
    ['a foreign rule in it', ['-A', 'TWILL-FORWARD', '-s', '192.0.2.1', '-j', 'ACCEPT']],
    ['a deleted jump', ['-D', 'FORWARD', '-j', 'TWILL-FORWARD']],
    ['a rule before the jump', ['-I', 'FORWARD', '-i', 'twl+', '-j', 'DROP']],
    ['a second jump', ['-A', 'FORWARD', '-j', 'TWILL-FORWARD']],
  ] as const)
    test(`${variant}: ${what} is put right`, () => {
      const chains = open()
      chains.ensure(CHAINS)
      const before = glanceAtLegacy(libc)
      run(iptables, ...damage)
      if (variant === 'legacy') assert.is.not(glanceAtLegacy(libc), before, 'seen at a glance')
      assert.equal(chains.ensure(CHAINS), { changed: [`${iptables} FORWARD`] })
      assert.ok(podToPod(3000))
      assert.is(rules().filter(rule => rule === '-A FORWARD -j TWILL-FORWARD').length, 1)
      assert.is(
        rules().find(rule => rule.startsWith('-A FORWARD')),
        '-A FORWARD -j TWILL-FORWARD',
      )
      assert.is(rules().filter(rule => rule.startsWith('-A TWILL-FORWARD')).length, 4)
      assert.equal(chains.ensure(CHAINS), { changed: [] })
    })

  test(`${variant}: IPv6 has its own table`, () => {
    run(`ip6${iptables.slice(2)}`, '-A', 'FORWARD', '-j', 'REJECT')
    const chains = open()
    assert.equal(chains.ensure(CHAINS).changed, [`ip6tables-${variant} FORWARD`])
    assert.ok(rules(`ip6tables-${variant}`).includes('-A TWILL-FORWARD -o twl+ -j ACCEPT'))
    assert.ok(
      arrives(mark => lab.a.send(fromPod('a', POD.a.v6, POD.b.v6, udp(1, 2, mark))), lab.b, 3000),
      'past a rule that rejects everything',
    )
  })

  test(`${variant}: what no longer drops is left again, and [] takes everything away`, () => {
    const chains = open()
    chains.ensure(CHAINS)
    run(iptables, '-P', 'INPUT', 'ACCEPT')
    assert.equal(chains.ensure(CHAINS).changed, [`${iptables} INPUT`])
    assert.not.ok(rules().some(rule => rule.includes('TWILL-INPUT')))
    assert.equal(chains.ensure([]).changed, [`${iptables} FORWARD`, `ip6tables-${variant} FORWARD`])
    assert.not.ok([...rules(), ...rules(`ip6tables-${variant}`)].some(rule => rule.includes('TWILL')))
    assert.ok(rules().includes('-A FORWARD -i eth9 -j ACCEPT'))
    run(iptables, '-P', 'FORWARD', 'ACCEPT')
    run(iptables, '-F', 'FORWARD')
    run(`ip6tables-${variant}`, '-F', 'FORWARD')
  })
}

test('tables of nft itself that drop are named, with the reason', () => {
  const nft = (command: string) => run('nft', command)
  nft(
    'add table inet firewalld; add chain inet firewalld filter_FORWARD { type filter hook forward priority 10; }',
  )
  assert.equal(open().foreignFilters(), [])
  nft('add chain inet firewalld end; add rule inet firewalld end counter reject with icmpx admin-prohibited')
  nft('add rule inet firewalld filter_FORWARD ct state established accept')
  nft('add rule inet firewalld filter_FORWARD ip saddr 192.0.2.1 drop')
  assert.equal(open().foreignFilters(), [], 'a rule with a match is no reason')
  nft('add rule inet firewalld filter_FORWARD jump end')
  nft('add table ip mine; add chain ip mine in { type filter hook input priority 0; policy drop; }')
  assert.equal(open().foreignFilters(), [
    {
      table: 'inet firewalld',
      chain: 'filter_FORWARD',
      hook: 'forward',
      reason: 'a rule in chain end drops whatever reaches it',
    },
    { table: 'ip mine', chain: 'in', hook: 'input', reason: 'policy drop' },
  ])
  nft('delete table inet firewalld')
  nft('delete table ip mine')
})

// ---------------------------------------------------------------- conntrack

interface FlowText {
  readonly original: readonly [string, string]
  readonly reply?: readonly [string, string]
}

/** A flow as if it had been seen; its reply direction tells what NAT made of it. */
function addFlow({ original, reply = [original[1], original[0]] }: FlowText): void {
  const [s, d] = original
  const [r, q] = reply
  run(
    'conntrack',
    '-I',
    '-s',
    s,
    '-d',
    d,
    '-r',
    r,
    '-q',
    q,
    '-p',
    'tcp',
    '--sport',
    '7',
    '--dport',
    '53',
    '--state',
    'ESTABLISHED',
    '--reply-port-src',
    '53',
    '--reply-port-dst',
    '7',
    '-t',
    '100',
  )
}

const FLOWS: readonly FlowText[] = [
  { original: ['10.244.1.1', '203.0.113.1'] },
  { original: ['203.0.113.2', '10.244.1.1'] },
  // By a service, and masqueraded.
  { original: ['203.0.113.3', '10.96.0.1'], reply: ['10.244.1.1', '203.0.113.3'] },
  { original: ['203.0.113.4', '203.0.113.5'], reply: ['203.0.113.5', '10.244.1.1'] },
  { original: ['10.244.1.1', '10.244.1.2'] },
  { original: ['fd00:10::1:1', '2001:db8::1'] },
]
const STRANGERS: readonly FlowText[] = [
  { original: ['10.244.1.11', '203.0.113.1'] },
  { original: ['fd00:10::1:11', '2001:db8::1'] },
]

const unrelated = (count: number) => Array.from({ length: count }, (_, i) => parseIp(`198.51.100.${i}`))

for (const [how, others] of [
  ['few addresses', []],
  ['many addresses at once', unrelated(20)],
] as const)
  test(`flows of an address go, whichever end and direction it is in: ${how}`, () => {
    run('conntrack', '-F')
    assert.is(flushConntrack(socket, [parseIp('10.244.1.1')]), 0)
    for (const flow of [...FLOWS, ...STRANGERS]) addFlow(flow)
    assert.is(run('conntrack', '-C').trim(), String(FLOWS.length + STRANGERS.length))
    assert.is(flushConntrack(socket, []), 0)
    assert.is(
      flushConntrack(socket, [parseIp('10.244.1.1'), parseIp('fd00:10::1:1'), ...others]),
      FLOWS.length,
    )
    const left = run('conntrack', '-L') + run('conntrack', '-L', '-f', 'ipv6')
    assert.not.match(left, /10\.244\.1\.1 |fd00:10::1:1 /)
    assert.match(left, /10\.244\.1\.11 /)
    assert.match(left, /fd00:10::1:11 /)
  })

test("of IPv4 alone, by the kernel's own filter", () => {
  run('conntrack', '-F')
  for (const flow of [...FLOWS, ...STRANGERS]) addFlow(flow)
  assert.is(flushConntrack(socket, [parseIp('10.244.1.1')]), FLOWS.length - 1)
  assert.match(run('conntrack', '-L'), /10\.244\.1\.11 /)
  // The kernel's filter takes every IPv6 flow but the one asked for, so it is not asked.
  assert.is(flushConntrack(socket, [parseIp('fd00:10::1:1')]), 1)
  assert.match(run('conntrack', '-L', '-f', 'ipv6'), /fd00:10::1:11 /)
})

test('flows in zones go too', () => {
  run('conntrack', '-F')
  execFileSync(
    'conntrack',
    [
      '-I',
      '-s',
      '10.244.1.1',
      '-d',
      '203.0.113.1',
      '-p',
      'udp',
      '--sport',
      '7',
      '--dport',
      '53',
      '-t',
      '100',
      '--zone',
      '5',
    ],
    { stdio: 'pipe' },
  )
  assert.is(flushConntrack(socket, [parseIp('10.244.1.1'), ...unrelated(20)]), 1)
})

test.run()
