import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { CniError } from '../../../cni-bin/cni-error.ts'
import { type CniRequest, parseRequest, type RequestContext } from '../../../cni-bin/request.ts'

const context: RequestContext = { ownNetns: { dev: '4', ino: '1' }, stdinFailure: null }
const variables = {
  CNI_COMMAND: 'ADD',
  CNI_CONTAINERID: 'c1',
  CNI_NETNS: '/run/netns/x',
  CNI_IFNAME: 'eth0',
  CNI_PATH: '/opt/cni/bin',
}

function parse(
  environment: Record<string, string>,
  config: object,
  changes: { ino?: string | null; context?: RequestContext; program?: string } = {},
): CniRequest {
  const ino = changes.ino === undefined ? '99' : changes.ino
  return parseRequest(
    {
      program: changes.program ?? 'twill',
      environment: new Map(Object.entries({ ...variables, ...environment })),
      stdin: Buffer.from(JSON.stringify({ cniVersion: '1.1.0', name: 'net', ...config })),
      netnsDev: ino === null ? null : '4',
      netnsIno: ino,
    },
    changes.context ?? context,
  )
}

function as<C extends CniRequest['command']>(
  request: CniRequest,
  command: C,
): Extract<CniRequest, { command: C }> {
  assert.is(request.command, command)
  return request as Extract<CniRequest, { command: C }>
}

function codeOf(call: () => unknown): number {
  try {
    call()
  } catch (error) {
    assert.instance(error, CniError)
    return (error as CniError).code
  }
  throw new Error('nothing was refused')
}

test('ADD: identity of network, container, interface and namespace', () => {
  const add = as(parse({}, { type: 'twill' }), 'ADD')
  assert.equal([add.network, add.containerId, add.ifName, add.cniVersion], ['net', 'c1', 'eth0', '1.1.0'])
  assert.equal(add.netns, { path: '/run/netns/x', dev: '4', ino: '99' })
  assert.equal([add.mtu, add.prevResult, add.pod], [null, null, null])
  assert.equal(add.twill, { pools: [], families: [] })
})

test('CNI-223: a Kubernetes pod in any order, and without uid', () => {
  const both = 'IgnoreUnknown=1;K8S_POD_NAME=web-0;K8S_POD_NAMESPACE=shop'
  assert.equal(as(parse({ CNI_ARGS: `K8S_POD_UID=u1;${both}` }, {}), 'ADD').pod, {
    namespace: 'shop',
    name: 'web-0',
    uid: 'u1',
  })
  assert.equal(as(parse({ CNI_ARGS: both }, {}), 'ADD').pod, { namespace: 'shop', name: 'web-0', uid: '' })
})

test('CNI-225: a name without a namespace, as podman sends it, is no pod', () => {
  assert.is(as(parse({ CNI_ARGS: 'K8S_POD_NAME=web' }, {}), 'ADD').pod, null)
})

test('CNI-222: an address in args makes CNI_ARGS be ignored; CNI-226: capabilities are added', () => {
  const inArgs = { args: { cni: { ips: ['10.0.0.2/24', 'nonsense'] } } }
  const wishes = (config: object) =>
    as(parse({ CNI_ARGS: 'IP=10.0.0.1/24;MAC=AA:bb:cc:dd:ee:01' }, config), 'ADD').wishes
  assert.equal(wishes({}).addresses, ['10.0.0.1'])
  assert.equal(wishes(inArgs).addresses, ['10.0.0.2'])
  assert.equal(wishes({ ...inArgs, runtimeConfig: { IPs: ['fd00::1', '10.0.0.2'] } }).addresses, [
    '10.0.0.2',
    'fd00::1',
  ])
})

test('CNI-207 CNI-224: the capability mac before MAC of CNI_ARGS, lower case', () => {
  const mac = (config: object) => as(parse({ CNI_ARGS: 'MAC=AA:bb:cc:dd:ee:01' }, config), 'ADD').wishes.mac
  assert.is(mac({}), 'aa:bb:cc:dd:ee:01')
  assert.is(mac({ runtimeConfig: { mac: 'AA:BB:CC:DD:EE:02' } }), 'aa:bb:cc:dd:ee:02')
})

const annotated = (annotations: unknown) => ({
  runtimeConfig: { 'io.kubernetes.cri.pod-annotations': annotations },
})

test('annotations: pools of each family and addresses, beside those that the call asks for', () => {
  const ours = {
    'twill.network/ipv4-pool': 'shop, spare',
    'twill.network/ipv6-pool': 'shop6',
    'twill.network/ip-addresses': '10.0.0.7,fd00::7',
    'example.com/other': '{}',
  }
  const { wishes } = as(parse({}, annotated(ours)), 'ADD')
  assert.equal(wishes.pools, { 4: ['shop', 'spare'], 6: ['shop6'] })
  assert.equal(wishes.addresses, ['10.0.0.7', 'fd00::7'])
  const both = { runtimeConfig: { ...annotated(ours).runtimeConfig, ips: ['10.0.0.7', '10.0.0.8'] } }
  assert.equal(as(parse({}, both), 'ADD').wishes.addresses, ['10.0.0.7', '10.0.0.8', 'fd00::7'])
  for (const none of [null, {}, { 'Twill.Network/IPv4-Pool': 'x' }])
    assert.equal(as(parse({}, annotated(none)), 'ADD').wishes.pools, { 4: [], 6: [] })
  const forOther = { ipam: { type: 'twill-ipam' }, ...annotated(ours) }
  assert.equal(as(parse({}, forOther, { program: 'twill-ipam' }), 'ADD').wishes.pools[4], ['shop', 'spare'])
})

test('the MAC of a pod: of its annotation, which nothing else may contradict', () => {
  const key = 'twill.network/mac'
  const macOf = (annotations: object, runtime: object = {}, args = '') => {
    const runtimeConfig = { ...annotated(annotations).runtimeConfig, ...runtime }
    return as(parse({ CNI_ARGS: args }, { runtimeConfig }), 'ADD').wishes.mac
  }
  assert.is(macOf({ [key]: '02:AA:00:00:00:07' }), '02:aa:00:00:00:07')
  assert.is(macOf({ [key]: '02:aa:00:00:00:07' }, { mac: '02:AA:00:00:00:07' }), '02:aa:00:00:00:07')
  assert.is(macOf({ [key]: '02:aa:00:00:00:07' }, {}, 'MAC=02:00:00:00:00:01'), '02:aa:00:00:00:07')
  assert.throws(
    () => macOf({ [key]: '02:aa:00:00:00:07' }, { mac: '02:aa:00:00:00:08' }),
    (error: CniError) => error.code === 7 && /annotation twill\.network\/mac asks for/.test(error.details),
  )
  const forOther = annotated({ [key]: '02:aa:00:00:00:07' })
  const other = parse({}, { ipam: { type: 'twill-ipam' }, ...forOther }, { program: 'twill-ipam' })
  assert.is(as(other, 'ADD').wishes.mac, null)
})

test('CNI-207 CNI-224: a MAC that no interface of a pod may have', () => {
  const none = [
    'ff:ff:ff:ff:ff:ff',
    '01:00:5e:00:00:01',
    '00:00:00:00:00:00',
    '02:54:57:49:4C:4C',
    '02:00:00:00:00',
    '02-00-00-00-00-01',
    '02:00:00:00:00:01:02',
    '02:00:00:00:00:0g',
    '02:00:00:00:00:01\n',
    '$(reboot)',
    '',
  ]
  for (const mac of none) {
    const isGroup = mac.startsWith('ff') || mac.startsWith('01')
    const expected = isGroup
      ? /an odd first octet makes it the address of a group/
      : /expected six octets of one interface such as \S+, not the node's end's \S+$/
    const refused = (config: object) => {
      try {
        parse({}, config)
        assert.unreachable(mac)
      } catch (error) {
        assert.is((error as CniError).code, 7, mac)
        assert.match((error as CniError).details, expected)
      }
    }
    refused(annotated({ 'twill.network/mac': mac }))
    if (mac !== '') refused({ runtimeConfig: { mac } })
    if (mac !== '')
      assert.is(
        codeOf(() => parse({ CNI_ARGS: `MAC=${mac}` }, {})),
        4,
        mac,
      )
  }
})

test('an annotation of our domain that nobody reads is refused with what was meant, and does not stop DEL', () => {
  for (const [key, hint] of [
    ['ipv4pool', 'did you mean twill.network/ipv4-pool?'],
    ['ip-address', 'did you mean twill.network/ip-addresses?'],
    ['Mac', 'did you mean twill.network/mac?'],
    ['priority', 'expected one of twill.network/ipv4-pool, '],
    ['', 'expected one of '],
  ] as const) {
    const config = annotated({ [`twill.network/${key}`]: 'x' })
    assert.throws(
      () => parse({}, config),
      ({ code, message, details }: CniError) =>
        code === 7 && message === `unknown annotation "twill.network/${key}"` && details.startsWith(hint),
    )
    assert.is(parse({ CNI_COMMAND: 'DEL' }, config).command, 'DEL')
  }
})

test('CNI-210: an annotation that cannot be read is named, with what was expected, and does not stop DEL', () => {
  const bad: [string, unknown, RegExp][] = [
    ['ipv4-pool', '', /is "", expected names of IPPools/],
    ['ipv4-pool', 'a,,b', /expected names of IPPools/],
    ['ipv4-pool', 'a, b, a', /is "a, b, a", expected/],
    [
      'ipv4-pool',
      Array.from({ length: 17 }, (_, i) => `p${i}`).join(),
      /expected names of IPPools, each once and at most 16,/,
    ],
    ['ipv6-pool', 'Shop', /is "Shop", expected names/],
    ['ipv6-pool', 7, /is 7, expected names/],
    ['ip-addresses', '10.0.0.7/24', /expected one IPv4 address/],
    ['ip-addresses', '10.0.0.7,10.0.0.8', /one IPv4 address, one IPv6 address, or one of each/],
    ['ip-addresses', 'fe80::1%eth0', /expected one IPv4/],
  ]
  for (const [name, value, details] of bad) {
    const config = annotated({ [`twill.network/${name}`]: value })
    try {
      parse({}, config)
      assert.unreachable()
    } catch (error) {
      assert.instance(error, CniError)
      const { code, message, details: said } = error as CniError
      assert.is(code, 7)
      assert.is(message, `invalid annotation twill.network/${name}`)
      assert.match(said, details)
    }
    assert.is(parse({ CNI_COMMAND: 'DEL' }, config).command, 'DEL')
  }
  assert.is(
    codeOf(() => parse({}, annotated([]))),
    7,
  )
})

test('CNI-220: labels', () => {
  const labels = [{ key: 'app', value: 'web' }, { key: 7, value: 'x' }, { key: 'empty' }]
  const { wishes } = as(parse({}, { args: { cni: { labels } } }), 'ADD')
  assert.equal(
    [...wishes.labels],
    [
      ['app', 'web'],
      ['empty', ''],
    ],
  )
})

test("CNI-118 CNI-205: dns of the runtime before the configuration's", () => {
  const config = { dns: { nameservers: ['1.1.1.1'], domain: 'd' } }
  assert.is(as(parse({}, config), 'ADD').dns.domain, 'd')
  const asked = { ...config, runtimeConfig: { dns: { servers: ['10.0.0.10'] } } }
  assert.equal(as(parse({}, asked), 'ADD').dns, {
    nameservers: ['10.0.0.10'],
    domain: null,
    search: [],
    options: [],
  })
})

test('our own part of the configuration', () => {
  const { twill } = as(parse({}, { twill: { pools: ['a', 'b'], families: ['IPv6'] } }), 'ADD')
  assert.equal(twill, { pools: ['a', 'b'], families: [6] })
})

test('CNI-132: DEL without a namespace, and with one that could not be opened', () => {
  assert.is(as(parse({ CNI_COMMAND: 'DEL', CNI_NETNS: '' }, {}, { ino: null }), 'DEL').netns, null)
  const gone = as(parse({ CNI_COMMAND: 'DEL' }, {}, { ino: null }), 'DEL')
  assert.equal(gone.netns, { path: '/run/netns/x', dev: null, ino: null })
})

test('CNI-139: a prevResult that cannot be read is none to DEL and an error to ADD', () => {
  const config = { prevResult: { ips: [{ address: 'x' }] } }
  assert.is(as(parse({ CNI_COMMAND: 'DEL' }, config), 'DEL').prevResult, null)
  assert.is(
    codeOf(() => parse({}, config)),
    7,
  )
})

test('CNI-164: no list, an empty list and a list are three things to GC', () => {
  const gc = (config: object) => as(parse({ CNI_COMMAND: 'GC' }, config), 'GC').validAttachments
  assert.is(gc({}), null)
  assert.is(gc({ 'cni.dev/valid-attachments': null }), null)
  assert.equal(gc({ 'cni.dev/valid-attachments': [] }), [])
  assert.equal(gc({ 'cni.dev/attachments': [{ containerID: 'a', ifname: 'b' }] }), [
    { containerId: 'a', ifName: 'b' },
  ])
})

test('CNI-160: an entry without its members is refused rather than read as another', () => {
  assert.is(
    codeOf(() => parse({ CNI_COMMAND: 'GC' }, { 'cni.dev/attachments': [{ containerID: 'a' }] })),
    7,
  )
})

test('CNI-034: the same namespace is code 8 by device and inode, and by nothing else', () => {
  assert.is(
    codeOf(() => parse({}, {}, { ino: '1' })),
    8,
  )
  const elsewhere = { ...context, ownNetns: { dev: '5', ino: '1' } }
  assert.is(parse({}, {}, { ino: '1', context: elsewhere }).command, 'ADD')
  assert.is(parse({}, {}, { ino: '1', context: { ...context, ownNetns: null } }).command, 'ADD')
})

test('CNI-027: stdin that cannot be read is behind the variables and before its content', () => {
  const broken = { ...context, stdinFailure: 'EISDIR' }
  assert.is(
    codeOf(() => parse({ CNI_IFNAME: '' }, {}, { context: broken })),
    4,
  )
  assert.is(
    codeOf(() => parse({ CNI_ARGS: 'x' }, {}, { context: broken })),
    4,
  )
  assert.is(
    codeOf(() => parse({}, { name: '' }, { context: broken })),
    5,
  )
})

test('CNI-104: what a caller sent comes back cut, on one line', () => {
  try {
    parse({}, { mtu: `x\n${'y'.repeat(5000)}` })
    assert.unreachable()
  } catch (error) {
    const { details } = error as CniError
    assert.ok(details.length < 300)
    assert.not.match(details, /\n/)
  }
})

test('keys of JSON that mean something to JavaScript are data', () => {
  const stdin = '{"cniVersion":"1.1.0","name":"net","__proto__":{"ipam":{"type":"x"}},"constructor":{}}'
  const request = {
    program: 'twill',
    environment: new Map(Object.entries(variables)),
    stdin: Buffer.from(stdin),
    netnsDev: '4',
    netnsIno: '99',
  }
  assert.is(parseRequest(request, context).command, 'ADD')
})

// ---------------------------------------------------------------- called as twill-ipam

const program = 'twill-ipam'
const ipam = { type: 'twill-ipam' }

test('CNI-240: which plugin is meant is the name that it is called by', () => {
  assert.is(as(parse({}, {}), 'ADD').plugin, 'twill')
  assert.is(as(parse({}, { ipam }, { program: 'copy-of-twill' }), 'ADD').plugin, 'twill')
  assert.is(as(parse({}, { ipam }, { program }), 'ADD').plugin, 'twill-ipam')
})

test('CNI-241: its own section is read, and what is for the plugin that called it is not', () => {
  const add = as(
    parse(
      { CNI_ARGS: 'IP=10.50.0.7' },
      {
        type: 'bridge',
        mtu: 'x',
        dns: 7,
        twill: 9,
        ipMasq: 'y',
        runtimeConfig: {
          portMappings: [{ hostPort: 80 }],
          bandwidth: { ingressRate: 1 },
          deviceID: '0000:00:1f.6',
          mac: 'zz',
          dns: { servers: ['10.0.0.1'] },
        },
        ipam: {
          ...ipam,
          pools: ['lan'],
          families: ['IPv4'],
          routes: [{ dst: '0.0.0.0/0' }, { dst: '10.9.0.0/16', gw: '10.50.0.2', priority: 7 }],
        },
        prevResult: { ips: 'x' },
      },
      { program },
    ),
    'ADD',
  )
  assert.equal(add.twill, { pools: ['lan'], families: [4] })
  assert.equal(
    add.routes.map(({ dst, gw, priority }) => [dst, gw, priority]),
    [
      ['0.0.0.0/0', null, null],
      ['10.9.0.0/16', '10.50.0.2', 7],
    ],
  )
  assert.equal([add.mtu, add.wishes.mac, add.wishes.addresses], [null, null, ['10.50.0.7']])
  assert.equal([add.dns.nameservers, add.prevResult], [['10.0.0.1'], null])
})

test('CNI-241: a missing ipam, one of another type and one with a range of its own are refused, but not by DEL', () => {
  for (const command of ['ADD', 'CHECK', 'STATUS']) {
    const codeFor = (config: object) =>
      codeOf(() => parse({ CNI_COMMAND: command }, { prevResult: {}, ...config }, { program }))
    assert.is(codeFor({}), 7)
    assert.is(codeFor({ ipam: { type: 'host-local' } }), 7)
    assert.is(codeFor({ ipam: { ...ipam, subnet: '10.1.0.0/16' } }), 2)
    assert.is(codeFor({ ipam: { ...ipam, families: [4] } }), 7)
    assert.is(codeFor({ ipam: { ...ipam, routes: [{ gw: '10.0.0.1' }] } }), 7)
    if (command !== 'STATUS')
      assert.is(codeFor({ ipam, runtimeConfig: { ipRanges: [[{ subnet: '10.1.0.0/16' }]] } }), 7)
  }
  for (const config of [{}, { ipam: 7 }, { ipam: { type: 'host-local', subnet: 'x' } }])
    assert.is(as(parse({ CNI_COMMAND: 'DEL' }, config, { program }), 'DEL').plugin, 'twill-ipam')
})

test('CNI-243: STATUS knows which pools it is asked about', () => {
  const status = as(
    parse({ CNI_COMMAND: 'STATUS' }, { ipam: { ...ipam, pools: ['lan'] } }, { program }),
    'STATUS',
  )
  assert.equal(status.twill.pools, ['lan'])
})

test.run()
