/** YAML → resources: every mistake is told with file, document, line, field, value and what was expected. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { readDocuments } from '../../../../datastore/resources/documents.ts'

const pool = (name: string, spec: string) =>
  `apiVersion: twill.network/v1alpha1\nkind: IPPool\nmetadata:\n  name: ${name}\nspec:\n${spec}`

const resources = (text: string) =>
  readDocuments([{ name: 'p.yaml', text }]).resources.map(({ resource }) => resource)

function problems(text: string): readonly string[] {
  return readDocuments([{ name: 'p.yaml', text }]).problems
}

test('a pool and a node in one file, with defaults filled in', () => {
  const text = `${pool('default', '  cidr: 10.244.0.0/16\n')}---\napiVersion: twill.network/v1alpha1\nkind: Node\nmetadata:\n  name: node1\n  labels: {zone: a, example.com/rack: r1}\n`
  assert.equal(resources(text), [
    {
      apiVersion: 'twill.network/v1alpha1',
      kind: 'IPPool',
      metadata: { name: 'default' },
      spec: {
        cidr: '10.244.0.0/16',
        blockSize: 26,
        encapsulation: 'Always',
        routes: 'Datastore',
        natOutgoing: true,
        disabled: false,
        allowedUses: ['pod', 'tunnel'],
      },
    },
    {
      apiVersion: 'twill.network/v1alpha1',
      kind: 'Node',
      metadata: { name: 'node1', labels: { zone: 'a', 'example.com/rack': 'r1' } },
      spec: {},
    },
  ])
})

test('JSON is YAML', () => {
  const text = JSON.stringify({
    apiVersion: 'twill.network/v1alpha1',
    kind: 'Node',
    metadata: { name: 'n' },
  })
  assert.is(resources(text)[0]?.metadata.name, 'n')
})

const spec = (line: string) => pool('a', `  cidr: 10.0.0.0/16\n  ${line}\n`)
const at = (line: number) => `p.yaml: document 1, line ${line}: `

const rows: [name: string, text: string, lines: string[]][] = [
  ['an empty file', '', ['p.yaml: empty: expected at least one document']],
  ['only a comment', '# nothing\n', ['p.yaml: empty: expected at least one document']],
  [
    'an empty document',
    `${pool('a', '  cidr: 10.0.0.0/16\n')}---\n# later\n`,
    ['p.yaml: document 2, line 7: empty: expected apiVersion, kind, metadata and spec'],
  ],
  ['a scalar', 'hello\n', [`${at(1)}"hello": expected a mapping of fields`]],
  ['a list', '- a\n', [`${at(1)}["a"]: expected a mapping of fields`]],
  [
    'a selector in words',
    spec('nodeSelector: "zone == \'a\'"'),
    [`${at(7)}spec.nodeSelector: "zone == 'a'": expected a mapping of matchLabels and matchExpressions`],
  ],
  [
    'an annotation that nobody reads',
    'apiVersion: twill.network/v1alpha1\nkind: Node\nmetadata: {name: a, annotations: {twill.network/x: b}}\n',
    [`${at(3)}metadata.annotations.twill.network/x: "b": unknown annotation, expected none here`],
  ],
  [
    'the header missing',
    'metadata: {name: a}\n',
    [
      `${at(1)}apiVersion: missing: expected twill.network/v1alpha1`,
      `${at(1)}kind: missing: expected one of IPPool, IPReservation, Namespace, Node`,
    ],
  ],
  [
    'the wrong apiVersion',
    'apiVersion: v1\nkind: Node\nmetadata: {name: a}\n',
    [`${at(1)}apiVersion: "v1": expected twill.network/v1alpha1`],
  ],
  [
    'the wrong kind',
    'apiVersion: twill.network/v1alpha1\nkind: Pool\n',
    [`${at(2)}kind: "Pool": expected one of IPPool, IPReservation, Namespace, Node`],
  ],
  [
    'an unknown field with a near miss',
    spec('blocksize: 26'),
    [`${at(7)}spec.blocksize: 26: unknown field, did you mean blockSize?`],
  ],
  [
    'an unknown field with a mapping below it',
    spec('colour:\n    a: 1'),
    [
      `${at(7)}spec.colour: {"a":1}: unknown field, expected one of cidr, blockSize, mode, encapsulation, routes, natOutgoing, natOutgoingExclusions, disabled, nodeSelector, namespaceSelector, nodeSlots, allowedUses, gateway`,
    ],
  ],
  ['__proto__ as a field', spec('__proto__: {x: 1}'), [`${at(7)}spec.__proto__`]],
  [
    'a block size outside its bounds',
    spec('blockSize: 12'),
    [`${at(7)}spec.blockSize: 12: expected /20 to /32 for IPv4`],
  ],
  [
    'a block size outside the bounds of IPv6',
    pool('a', '  cidr: fd00::/64\n  blockSize: 64\n'),
    [`${at(7)}spec.blockSize: 64: expected /116 to /128 for IPv6`],
  ],
  [
    'a slot larger than its pool',
    pool('a', '  cidr: 10.0.0.0/28\n'),
    [`${at(5)}spec.blockSize: missing: expected /28 or longer: a slot is no larger than its pool`],
  ],
  ['a block size that is text', spec('blockSize: "26"'), [`${at(7)}spec.blockSize: "26": expected a number`]],
  ['a choice', spec('routes: RIP'), [`${at(7)}spec.routes: "RIP": expected one of Datastore, BGP`]],
  [
    'a pool for ipam and for pods',
    spec('allowedUses: [pod, ipam]'),
    [`${at(7)}spec.allowedUses: ["pod","ipam"]: expected ipam alone`],
  ],
  [
    'a mode beside what it stands for',
    spec('mode: bgp\n  encapsulation: Never\n  routes: Datastore'),
    [
      `${at(8)}spec.encapsulation: "Never": expected none beside mode: bgp means Never`,
      `${at(9)}spec.routes: "Datastore": expected none beside mode: bgp means BGP`,
    ],
  ],
  [
    'a mode that is none',
    spec('mode: ipip'),
    [`${at(7)}spec.mode: "ipip": expected one of vxlan, crossSubnet`],
  ],
  [
    'exclusions that are no prefixes',
    spec('natOutgoingExclusions: [10.1.0.0/16, 10.1.0.1/16, any]'),
    [
      `${at(7)}spec.natOutgoingExclusions[1]: "10.1.0.1/16": expected no bits set beyond the length`,
      `${at(7)}spec.natOutgoingExclusions[2]: "any": expected a prefix such as`,
    ],
  ],
  [
    'exclusions of the other family',
    spec('natOutgoingExclusions: [10.1.0.0/16, "fd00::/8"]'),
    [`${at(7)}spec.natOutgoingExclusions[1]: "fd00::/8": expected a prefix of IPv4, as the pool is`],
  ],
  [
    'exclusions without natOutgoing',
    spec('natOutgoing: false\n  natOutgoingExclusions: [10.1.0.0/16]'),
    [`${at(8)}spec.natOutgoingExclusions[0]: "10.1.0.0/16": expected none unless natOutgoing is true`],
  ],
  [
    'exclusions of a pool for ipam',
    spec('allowedUses: [ipam]\n  natOutgoingExclusions: [10.1.0.0/16]'),
    [`${at(8)}spec.natOutgoingExclusions[0]: "10.1.0.0/16": expected none: nothing of a pool for ipam`],
  ],
  [
    'a pool for nothing',
    spec('allowedUses: []'),
    [`${at(7)}spec.allowedUses: []: expected at least one use`],
  ],
  [
    'a use twice',
    spec('allowedUses: [pod, pod]'),
    [`${at(7)}spec.allowedUses: ["pod","pod"]: expected at least one use, each once`],
  ],
  [
    'a gateway of a pool for pods',
    spec('gateway: 10.0.0.1'),
    [`${at(7)}spec.gateway: "10.0.0.1": expected none unless allowedUses is [ipam]`],
  ],
  ...['10.1.0.1', '10.0.0.0', '10.0.255.255', 'fd00::1', '10.0.0.1/16', 'router'].map(
    (gateway): [string, string, string[]] => [
      `the gateway ${gateway}`,
      spec(`allowedUses: [ipam]\n  gateway: ${gateway}`),
      [`${at(8)}spec.gateway: "${gateway}": expected an address of a host in 10.0.0.0/16`],
    ],
  ),
  [
    'a pool for ipam without room for a gateway and addresses',
    pool('a', '  cidr: 10.0.0.0/31\n  blockSize: 32\n  allowedUses: [ipam]\n'),
    [`${at(6)}spec.cidr: "10.0.0.0/31": expected /30 or shorter for ipam`],
  ],
  ['yes is no flag', spec('disabled: yes'), [`${at(7)}spec.disabled: "yes": expected true or false`]],
  [
    'the prefix',
    pool('a', '  cidr: 10.0.0.1/16\n'),
    [`${at(6)}spec.cidr: "10.0.0.1/16": expected no bits set beyond the length: 10.0.0.0/16`],
  ],
  [
    'the name',
    pool('A_b', '  cidr: 10.0.0.0/16\n'),
    [`${at(4)}metadata.name: "A_b": expected lower-case letters, digits, "-" and "."`],
  ],
  [
    'labels',
    'apiVersion: twill.network/v1alpha1\nkind: Node\nmetadata:\n  name: a\n  labels:\n    ok: true\n    "a b": c\n',
    [
      `${at(6)}metadata.labels.ok: true: expected text`,
      `${at(7)}metadata.labels: "a b": expected a label name such as zone or example.com/zone`,
    ],
  ],
  [
    'a field of a Node, which has none',
    'apiVersion: twill.network/v1alpha1\nkind: Node\nmetadata: {name: a}\nspec: {cidr: x}\n',
    [`${at(4)}spec.cidr: "x": unknown field, expected none here`],
  ],
  [
    'no spec',
    'apiVersion: twill.network/v1alpha1\nkind: IPPool\nmetadata: {name: a}\n',
    [`${at(1)}spec: missing: expected a mapping of fields`],
  ],
  ['the same key twice', 'kind: Node\nkind: Node\n', [`${at(2)}not YAML: Map keys must be unique`]],
  ['tabs', 'a:\n\tb: 1\n', [`${at(2)}not YAML: Tabs are not allowed as indentation`]],
  ['an unknown tag', 'a: !!js/function x\n', [`${at(1)}not YAML: Unresolved tag`]],
  ['an unclosed list', 'a: [1, 2\n', [`${at(2)}not YAML: `]],
  ['an alias to nothing', 'a: *x\n', [`${at(1)}`]],
  [
    'the same resource twice',
    `${pool('a', '  cidr: 10.0.0.0/16\n')}---\n${pool('a', '  cidr: 10.1.0.0/16\n')}`,
    [
      'p.yaml: document 2, line 8: metadata.name: "a": expected one IPPool a, the first is in p.yaml: document 1, line 1',
    ],
  ],
]

for (const [name, text, lines] of rows)
  test(`refused: ${name}`, () => {
    const found = problems(text)
    assert.is(found.length, lines.length, JSON.stringify(found, null, 2))
    for (const [index, line] of lines.entries())
      assert.ok(found[index]?.startsWith(line), `${found[index]}\nexpected to begin with\n${line}`)
  })

test('the mistakes of all documents are told at once', () => {
  const text = [spec('blockSize: 12'), 'kind: [\n', spec('routes: RIP\n  disabled: 1')].join('---\n')
  const documents = problems(text).map(line => /document (\d)/.exec(line)?.[1])
  assert.ok(documents.includes('1') && documents.includes('2'))
  assert.is(documents.filter(number => number === '3').length, 2)
})

/** As `kubectl get -o json --show-managed-fields` prints a pool. */
const served = (name: string, metadata: object = {}) => ({
  apiVersion: 'twill.network/v1alpha1',
  kind: 'IPPool',
  metadata: {
    name,
    ...{ uid: 'object-1', resourceVersion: '7', generation: 2, selfLink: '/x', managedFields: [{}] },
    labels: { zone: 'a' },
    annotations: {
      'twill.network/entered-as': 'entered-1/object-1',
      'twill.network/commit': 'ff',
      'kubectl.kubernetes.io/last-applied-configuration': '{}',
    },
    finalizers: ['twill.network/pool'],
    ...metadata,
  },
  spec: { cidr: '10.0.0.0/16' },
  status: { conditions: [{ type: 'Accepted' }] },
})

test('what a server adds is nothing that was written, and the uid is that of the address space', () => {
  const [read] = resources(JSON.stringify(served('a')))
  assert.equal(read?.metadata, { name: 'a', labels: { zone: 'a' }, uid: 'entered-1' })
  const another = served('a', { uid: 'object-2' })
  assert.equal(resources(JSON.stringify(another))[0]?.metadata, { name: 'a', labels: { zone: 'a' } })
  const annotated = served('a', { annotations: { 'example.com/x': 'y', 'twill.network/commit': 'ff' } })
  assert.equal(resources(JSON.stringify(annotated))[0]?.metadata.annotations, { 'example.com/x': 'y' })
  const ours = `${pool('a', '  cidr: 10.0.0.0/16\n').replace('name: a', 'name: a\n  uid: u')}`
  assert.is(resources(ours)[0]?.metadata.uid, 'u', 'of twillctl it stands as it is')
})

test('finalizers and owners of others are not lost in silence', () => {
  const text = JSON.stringify(
    served('a', { finalizers: ['twill.network/pool', 'example.com/x'], ownerReferences: [{}] }),
  )
  const [finalizers = '', owners = ''] = problems(text)
  assert.match(finalizers, 'metadata.finalizers: ["example.com/x"]: expected none but twill.network/pool')
  assert.match(owners, 'metadata.ownerReferences: [{}]: expected none')
})

test('a List is each of its items, with the lines of its mistakes', () => {
  const list = (...items: object[]) => JSON.stringify({ apiVersion: 'v1', kind: 'List', items }, null, 1)
  assert.equal(
    resources(list(served('a'), served('b'))).map(({ metadata }) => metadata.name),
    ['a', 'b'],
  )
  const wrong = list(served('a'), { ...served('b'), spec: { cidr: 'ten' } })
  const line = wrong.split('\n').findIndex(each => each.includes('"ten"')) + 1
  assert.match(problems(wrong)[0] ?? '', new RegExp(`^p.yaml: document 1, line ${line}: spec.cidr: "ten"`))
  assert.match(problems(list(served('a'), served('a')))[0] ?? '', 'expected one IPPool a')
  assert.equal(problems(list(null as never)).length, 1)
})

test('an alias bomb ends as an error', () => {
  const levels = Array.from(
    { length: 20 },
    (_, i) => `l${i + 1}: &l${i + 1} [*l${i}, *l${i}, *l${i}, *l${i}]`,
  )
  const [line = ''] = problems(`l0: &l0 x\n${levels.join('\n')}\n`)
  assert.match(line, 'alias')
})

test.run()
