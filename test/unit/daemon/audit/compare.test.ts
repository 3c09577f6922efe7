/** The audit of a node: each disagreement by itself, and that nothing is mended on the word of one source. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { aliasOf } from '../../../../daemon/attach/identity.ts'
import { compareNode, type NodeFacts } from '../../../../daemon/audit/compare.ts'
import { REAP_GROUP } from '../../../../kernel/ownership.ts'
import { link } from '../kernel-model.ts'
import { ADDRESS, agreeing, DEVICE, HOLDER, INSIDE, LEASE, MAC, POD, ROUTE, SANDBOX } from './facts.ts'

const GONE: NodeFacts['namespaces'] = new Map([['a1', { is: 'gone' }]])
const UNKNOWN: NodeFacts['namespaces'] = new Map([['a1', { is: 'unknown' }]])
const inside = (pod: Partial<typeof INSIDE> | null): Partial<NodeFacts> => ({
  namespaces: new Map([['a1', { is: 'same', pod: pod === null ? null : { ...INSIDE, ...pod } }]]),
})
const sandboxes = (...all: (typeof SANDBOX)[]) => ({ sandboxes: all, addresses: new Map<string, string[]>() })
/** The pod and its link are gone; what is left of it in the kernel goes by itself. */
const DEAD: Partial<NodeFacts> = {
  namespaces: GONE,
  links: [],
  routes: [],
  neighbours: [],
  runtime: sandboxes(),
}
const FORGOTTEN: Partial<NodeFacts> = { attachments: [], ...DEAD }
const LENT: Partial<NodeFacts> = {
  leases: [LEASE],
  namespaces: new Map([...agreeing().namespaces, ['l1', { is: 'gone' }]]),
}
const EMPTY: Partial<NodeFacts> = { inhabited: new Map([['l1', false]]) }
const stranger = { id: 'c9', pod: { namespace: 'x', name: 'y' }, ready: true }
const having = (address: string, sandbox = stranger): Partial<NodeFacts> => ({
  runtime: { sandboxes: [SANDBOX, sandbox], addresses: new Map([[sandbox.id, [address]]]) },
})

const TABLE: readonly [name: string, changes: Partial<NodeFacts>, found: readonly string[]][] = [
  ['all agrees', {}, []],
  ['all agrees, without a runtime', { runtime: null }, []],
  [
    'all agrees, as far as a silent runtime and datastore let it be seen',
    { runtime: 'silent', ledger: null },
    [],
  ],
  ['namespace and link gone, the runtime does not know it', DEAD, ['attachment.dead: detach']],
  ['nor is there a runtime', { ...DEAD, runtime: null }, ['attachment.dead: detach']],
  ['the runtime has it still', { ...DEAD, runtime: sandboxes(SANDBOX) }, ['attachment.dead']],
  [
    'also when it is not ready',
    { ...DEAD, runtime: sandboxes({ ...SANDBOX, ready: false }) },
    ['attachment.dead'],
  ],
  ['a runtime that does not answer proves nothing', { ...DEAD, runtime: 'silent' }, ['attachment.dead']],
  ['an operation under way is not judged', { ...DEAD, busy: new Set(['a1']) }, []],
  ['nor what is being detached', { ...DEAD, attachments: [{ ...POD, state: 'detaching' }] }, []],
  [
    'a link that awaits its deletion is gone',
    { ...DEAD, links: [link(DEVICE, { alias: aliasOf('a1'), group: REAP_GROUP })] },
    ['attachment.dead: detach'],
  ],
  [
    'the path is gone, the link stands: one source',
    { namespaces: GONE, runtime: sandboxes() },
    ['attachment.namespace-gone'],
  ],
  ['the link is gone, the namespace lives', { links: [] }, ['attachment.link-missing']],
  [
    'and when nobody knows of the namespace',
    { links: [], namespaces: UNKNOWN, runtime: null },
    ['attachment.link-missing'],
  ],
  ['the interface is gone inside', inside(null), ['attachment.interface-wrong']],
  ['it is down', inside({ up: false }), ['attachment.interface-wrong']],
  ['it has lost its address', inside({ addresses: [] }), ['attachment.interface-wrong']],
  [
    'no such sandbox, but a namespace: one source',
    { runtime: sandboxes() },
    ['attachment.unknown-to-runtime'],
  ],
  [
    'which says nothing of a container that is no pod',
    { runtime: sandboxes(), attachments: [{ ...POD, pod: null }] },
    [],
  ],
  ['no route', { routes: [] }, ['kernel.route-missing']],
  ['a route to elsewhere', { routes: [{ ...ROUTE, device: 'eth0' }] }, ['kernel.route-missing']],
  ['a route of nobody', { routes: [ROUTE, { ...ROUTE, dst: '10.244.0.9/32' }] }, ['kernel.route-of-nobody']],
  [
    'unless somebody is at it',
    { routes: [ROUTE, { ...ROUTE, dst: '10.244.0.9/32' }], busy: new Set(['b']) },
    [],
  ],
  ['no neighbour', { neighbours: [] }, ['kernel.neighbour-wrong']],
  [
    'a neighbour with another MAC',
    {
      neighbours: [
        { device: DEVICE, family: 4, address: ADDRESS, mac: '02:00:00:00:00:bb', permanent: true },
      ],
    },
    ['kernel.neighbour-wrong'],
  ],
  [
    'a neighbour that will be forgotten',
    { neighbours: [{ device: DEVICE, family: 4, address: ADDRESS, mac: MAC, permanent: false }] },
    ['kernel.neighbour-wrong'],
  ],
  ['an address that the ledger does not have', { ledger: new Map() }, ['attachment.not-in-ledger']],
  ['or has for another', { ledger: new Map([[ADDRESS, 'b']]) }, ['attachment.not-in-ledger']],
  ['which a new pod need not have yet', { ledger: new Map(), nowBoottimeMs: 20_000 }, []],
  [
    'a link of nobody',
    { links: [...agreeing().links, link('twl9', { alias: aliasOf('b') })] },
    ['kernel.link-of-nobody'],
  ],
  [
    'whose operation is under way',
    { links: [...agreeing().links, link('twl9', { alias: aliasOf('b') })], busy: new Set(['b']) },
    [],
  ],
  [
    "somebody else's link of that name",
    { links: [...agreeing().links, link('twl9', { alias: 'mine' })] },
    [],
  ],
  ['a holder that only the ledger knows', FORGOTTEN, ['holder.only-in-ledger: release']],
  ['also without a runtime', { ...FORGOTTEN, runtime: null }, ['holder.only-in-ledger: release']],
  [
    'whose link stands',
    { ...FORGOTTEN, links: agreeing().links },
    ['holder.only-in-ledger', 'kernel.link-of-nobody'],
  ],
  ['whose sandbox the runtime has', { ...FORGOTTEN, runtime: sandboxes(SANDBOX) }, ['holder.only-in-ledger']],
  ['of which a silent runtime says nothing', { ...FORGOTTEN, runtime: 'silent' }, ['holder.only-in-ledger']],
  ['which is just being attached', { ...FORGOTTEN, busy: new Set(['a1']) }, []],
  ['a lease whose namespace lives', { leases: [LEASE] }, []],
  ['a lease whose namespace is gone, and the sandbox too', LENT, ['lease.dead: end']],
  ['while somebody is at it', { ...LENT, busy: new Set(['l1']) }, []],
  [
    'which the runtime has still',
    { ...LENT, runtime: sandboxes(SANDBOX, { ...SANDBOX, id: 'c2' }) },
    ['lease.dead'],
  ],
  ['without a runtime: one source', { ...LENT, runtime: null }, ['lease.dead']],
  ['the runtime is silent', { ...LENT, runtime: 'silent' }, ['lease.dead']],
  ['the runtime is silent, and nobody is in it', { ...LENT, ...EMPTY, runtime: 'silent' }, ['lease.dead']],
  ['without a runtime, and nobody is in it', { ...LENT, ...EMPTY, runtime: null }, ['lease.dead: end asked']],
  [
    'of a container that no CRI has made, and nobody is in its namespace',
    { ...LENT, ...EMPTY, leases: [{ ...LEASE, pod: null }] },
    ['lease.dead: end asked'],
  ],
  [
    'somebody is in it',
    { ...LENT, leases: [{ ...LEASE, pod: null }], inhabited: new Map([['l1', true]]) },
    ['lease.dead'],
  ],
  [
    'of a container that no CRI has made: one source',
    { ...LENT, leases: [{ ...LEASE, pod: null }] },
    ['lease.dead'],
  ],
  [
    'the address of the tunnel is not a pod',
    { ...FORGOTTEN, holders: [{ ...HOLDER, holder: { ...HOLDER.holder, kind: 'tunnel' } }] },
    [],
  ],
  [
    'a sandbox with an address of a pool that the journal does not know',
    having('10.244.0.77'),
    ['sandbox.not-attached'],
  ],
  [
    'a sandbox with an address that is lent to it through twill-ipam',
    {
      ...having('10.244.0.77'),
      holders: [HOLDER, { ...HOLDER, holder: { ...HOLDER.holder, kind: 'ipam', containerId: stranger.id } }],
    },
    [],
  ],
  ['with an address of others: not ours', having('192.168.77.1'), []],
  ['that is not ready', having('10.244.0.77', { ...stranger, ready: false }), []],
]

for (const [name, changes, expected] of TABLE)
  test(name, () => {
    const findings = compareNode(agreeing(changes))
    assert.equal(
      findings.map(({ kind, remedy }) => {
        const asked = remedy?.do === 'end' && remedy.asked ? ' asked' : ''
        return remedy === null ? kind : `${kind}: ${remedy.do}${asked}`
      }),
      expected,
    )
    for (const { object, message, mend } of findings)
      assert.ok(object !== '' && message !== '' && mend !== '')
  })

test('a remedy names the very attachment, and the very addresses', () => {
  const [dead] = compareNode(agreeing(DEAD))
  assert.equal(dead?.remedy, { do: 'detach', attachment: POD })
  const [forgotten] = compareNode(agreeing(FORGOTTEN))
  assert.equal(forgotten?.remedy, { do: 'release', holderId: 'a1', addresses: POD.addresses })
})

test.run()
