/** Twill goes off a node: what is removed, what is spared, and that a run that was stopped anywhere is finished by the next. */
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { attachmentId, leaseId } from '../../../cni-bin/attachment-id.ts'
import { writeSpooled } from '../../../cni-bin/spool.ts'
import type { JournalRecord } from '../../../daemon/journal/records.ts'
import { LocalState } from '../../../daemon/local-state.ts'
import { sayUnavailable } from '../../../daemon/uninstall/node-object.ts'
import { letPoolsGo } from '../../../daemon/uninstall/pools.ts'
import { removeState } from '../../../daemon/uninstall/remove-files.ts'
import { type StepModules, takeOff } from '../../../daemon/uninstall/uninstall.ts'
import type { Query } from '../../../datastore/kubernetes/client.ts'
import type { Holder } from '../../../ipam/ipam.ts'
import { FakeKernel } from '../../../kernel/fake/kernel.ts'
import { GATEWAY, POD_ALIAS_PREFIX, REAP_GROUP, VXLAN_ALIAS } from '../../../kernel/ownership.ts'
import { systemClock } from '../../../lib/clock.ts'
import { type ErrorCode, isTwillError, TwillError } from '../../../lib/errors.ts'
import { silentLog } from '../../../lib/log.ts'
import { page } from '../../fixtures/kubernetes/scripted-client.ts'
import { holder } from '../ipam/rig.ts'

const BOOT = 'boot:1'
const VXLAN = { vni: 84, port: 4789, local: '192.0.2.1', underlay: 'eth0', learning: false }

/** A node with everything that a daemon leaves behind, and with things of others. */
class Node {
  readonly root = mkdtempSync(join(tmpdir(), 'twsu-'))
  readonly kernel = new FakeKernel()
  readonly told: string[] = []
  readonly config = {
    nodeName: 'node1',
    stateDir: join(this.root, 'state'),
    runDir: join(this.root, 'run'),
    cni: {
      conflist: join(this.root, 'net.d/10-twill.conflist') as string | null,
      binDir: join(this.root, 'bin'),
      chain: [],
      network: 'twill',
    },
  }
  /** Asked of those who hold addresses when the cluster is left; null: it was not. */
  isOver: ((holder: Holder) => boolean) | null = null
  failure: Error | null = null
  kubernetes: StepModules['sayUnavailable'] = null
  pools: StepModules['letPoolsGo'] = null
  isLast = false

  static async make(): Promise<Node> {
    const node = new Node()
    node.makeFiles()
    await node.makeObjects()
    await node.journal({ t: 'node', uid: 'uid-1', name: 'node1', clusterUid: 'cluster' })
    return node
  }

  makeFiles(): void {
    const { stateDir, runDir, cni } = this.config
    for (const folder of [join(stateDir, 'spool'), runDir, join(this.root, 'net.d'), cni.binDir])
      mkdirSync(folder, { recursive: true })
    for (const name of ['10-twill.conflist', '10-twill.conflist.new', '99-other.conf'])
      writeFileSync(join(this.root, 'net.d', name), '{}')
    for (const name of ['twill', 'twill-ipam', 'twill-offline', '.twill.new', 'portmap'])
      writeFileSync(join(cni.binDir, name), 'x')
    for (const name of ['cluster-snapshot', 'cluster-snapshot.new', 'journal.damaged-17', 'twilld.lock'])
      writeFileSync(join(stateDir, name), 'x')
    for (const name of ['cni.sock', 'api.sock', 'alive', 'twilld.lock']) writeFileSync(join(runDir, name), '')
  }

  async makeObjects(): Promise<void> {
    const { kernel } = this
    kernel.node.addLink({ name: 'eth0', up: true, carrier: true, mac: '02:00:00:00:00:01' })
    // Named as ours, and another's.
    kernel.node.addLink({ name: 'twill-vx6', kind: 'vxlan', alias: 'theirs' })
    kernel.node.routes.push({ ...STRANGER, dst: '10.99.0.0/16' })
    const [mac, dst] = ['02:00:00:00:aa:02', '192.0.2.2']
    await kernel.apply([
      { type: 'vxlan.add', name: 'twill-vx4', mac, mtu: 1450, alias: VXLAN_ALIAS, vxlan: VXLAN },
      { type: 'link.set', device: 'twill-vx4', up: true },
      { type: 'address.add', device: 'lo', ...GATEWAY_ADDRESS },
      { type: 'address.add', device: 'twill-vx4', ...GATEWAY_ADDRESS, address: '10.64.9.9', scope: 0 },
      { type: 'neighbour.replace', device: 'twill-vx4', family: 4, address: '10.64.8.0', mac },
      { type: 'fdb.replace', device: 'twill-vx4', mac, dst },
      { type: 'route.replace', route: { family: 4, dst: '10.64.0.0/16', type: 'unreachable' } },
      {
        type: 'route.replace',
        route: { family: 4, dst: '10.64.8.0/24', type: 'unicast', device: 'twill-vx4' },
      },
    ])
    await kernel.replaceRuleset({ chains: 'chain forward {}', elements: new Map([['pods', new Set()]]) })
    await kernel.ensureAcceptChains([{ hook: 'forward', family: 4, matches: [['-i', 'twl+']] }])
    const alias = `${POD_ALIAS_PREFIX}gone`
    kernel.node.addLink({ name: 'twl0000000000ff', kind: 'veth', alias, group: REAP_GROUP })
  }

  async withLocal<T>(use: (local: LocalState) => Promise<T>): Promise<T> {
    const { stateDir } = this.config
    const modules = { clock: systemClock, log: silentLog }
    const local = await LocalState.open({ stateDir, boot: BOOT, coolDownMs: 1 }, modules)
    try {
      return await use(local)
    } finally {
      await local.close()
    }
  }

  journal(...records: JournalRecord[]): Promise<void> {
    return this.withLocal(async local => {
      for (const record of records) await local.append(record)
    })
  }

  async addPod(name: string, n: number): Promise<string> {
    const id = attachmentId('twill', name, 'eth0')
    const netns = this.kernel.addNamespace(`/run/netns/${name}`)
    const hostInterface = `twl${id.slice(0, 12)}`
    const address = `10.64.9.${n}`
    await this.journal({
      t: 'attach',
      attachment: { ...held(name, id, address), hostInterface, podMac: null, mtu: 1450, state: 'attached' },
    })
    await this.kernel.attachPod(
      {
        netns,
        podInterface: 'eth0',
        hostInterface,
        alias: `${POD_ALIAS_PREFIX}${id}`,
        podMac: null,
        mtu: 1450,
        addresses: [{ family: 4, address, routeSource: null }],
        netnsCookie: null,
        gatewayOnHostEnd: true,
      },
      [{ set: 'pods', element: `"${hostInterface}" . ${address}` }],
    )
    return hostInterface
  }

  async addLease(name: string, change: { boot?: string } = {}): Promise<string> {
    const id = leaseId('twill', name, 'eth0')
    await this.journal({ t: 'lease', lease: { ...held(name, id, '10.64.9.77'), ...change } })
    return id
  }

  fileDel(id: string, boottimeMs: number, boot = BOOT): void {
    const request = {
      program: '',
      environment: new Map(),
      stdin: Buffer.alloc(0),
      netnsDev: null,
      netnsIno: null,
    }
    writeSpooled(join(this.config.stateDir, 'spool'), `${id}-${boottimeMs}-1`, {
      boot,
      boottimeMs,
      realtimeMs: 1,
      request,
    })
  }

  async takeOff(force = false): Promise<void> {
    const leave = async (isOver: (holder: Holder) => boolean) => {
      if (this.failure !== null) throw this.failure
      this.isOver = isOver
      return { text: 'Node node1 has left', last: this.isLast }
    }
    await this.withLocal(local =>
      takeOff(
        this.config,
        { force },
        {
          ...{ log: silentLog, tell: line => this.told.push(line.replaceAll(this.root, '')) },
          ...{ boot: BOOT, kernel: this.kernel, local, leave },
          ...{ sayUnavailable: this.kubernetes, letPoolsGo: this.pools },
        },
      ),
    )
  }

  files(): string[] {
    return readdirSync(this.root, { recursive: true, encoding: 'utf8' }).sort()
  }

  /** With the kernel: all that may have changed. The journal is appended to when it is opened for a lock's sake. */
  look(): string {
    const rules = JSON.stringify([this.kernel.acceptChains, this.kernel.elements()])
    return [this.kernel.dump(), rules, ...this.files()].join('\n')
  }
}

const STRANGER = {
  family: 4,
  type: 'blackhole',
  device: null,
  gateway: null,
  src: null,
  metric: 0,
  protocol: 4,
  table: 254,
  scope: 0,
  onlink: false,
  mtu: null,
} as const
const GATEWAY_ADDRESS = { family: 4, address: GATEWAY[4], prefix: 32, scope: 253, nodad: false } as const

const held = (name: string, id: string, address: string) => ({
  id,
  network: 'twill',
  containerId: name,
  ifName: 'eth0',
  netns: { path: `/run/netns/${name}`, dev: null, ino: null },
  netnsCookie: null,
  addresses: [{ family: 4 as const, address, poolUid: 'p', slot: '10.64.9.0/26', generation: 1 }],
  pod: { namespace: 'default', name, uid: `uid-${name}` },
  boot: BOOT,
  begunBoottimeMs: 100,
  since: 1,
})

const FOREIGN = [
  'link eth0 - 02:00:00:00:00:01 mtu 1500 up',
  'link lo - 00:00:00:00:00:00 mtu 65536 up',
  'link twill-vx6 vxlan 00:00:00:00:00:00 mtu 1500 down alias theirs',
  'route 10.99.0.0/16 blackhole metric 0 proto 4',
]

async function assertClear(node: Node): Promise<void> {
  const { kernel } = node
  const ofNode = kernel
    .dump()
    .split('\n')
    .filter(line => !line.startsWith('/run/netns/'))
  assert.equal(ofNode, FOREIGN)
  assert.equal(kernel.acceptChains, [])
  assert.is(await kernel.removeRuleset(), false)
  assert.equal(readdirSync(join(node.root, 'net.d')), ['99-other.conf'])
  assert.equal(readdirSync(node.config.cni.binDir), ['portmap'])
}

async function codeOf(work: Promise<unknown>): Promise<ErrorCode | string> {
  try {
    await work
    return 'done'
  } catch (error) {
    return isTwillError(error) ? error.code : (error as Error).message
  }
}

const test = suite<{ node: Node }>('uninstall')
test.before.each(async context => {
  context.node = await Node.make()
})
test.after.each(({ node }) => rmSync(node.root, { recursive: true }))

test('what is ours goes, in an order in which nobody is told of what is no more; what is not stays', async ({
  node,
}) => {
  await node.takeOff()
  await assertClear(node)
  assert.equal(node.told, [
    'removed /net.d/10-twill.conflist',
    'removed /net.d/10-twill.conflist.new',
    'removed /bin/twill-ipam',
    'removed /bin/twill',
    'removed /bin/.twill.new',
    'removed /bin/twill-offline',
    'removed 2 routes',
    'removed 1 permanent neighbour',
    'removed 1 FDB entry',
    'removed address twill-vx4 10.64.9.9/32',
    'removed link twill-vx4',
    `removed address lo ${GATEWAY[4]}/32`,
    'removed link twl0000000000ff',
    'removed accept chain in accept chains',
    'removed nftables table inet twill',
    'Node node1 has left',
  ])
})

test('a second run finds nothing, and leaves again', async ({ node }) => {
  await node.takeOff()
  node.told.length = 0
  await node.takeOff()
  assert.equal(node.told, ['Node node1 has left'])
  await assertClear(node)
})

test('while pods live it is refused, names them, and changes nothing', async ({ node }) => {
  for (let i = 0; i < 12; i++) await node.addPod(`web${i}`, i + 1)
  const before = node.look()
  const refusal = await node.takeOff().catch(error => error as TwillError)
  assert.ok(isTwillError(refusal, 'resource.in-use'))
  assert.match(
    refusal.message,
    /^12 pods of this node would be cut off: default\/web\d+ \(eth0\), .* and 2 more\./,
  )
  assert.match(refusal.message, /--force/)
  assert.is(node.look(), before)
  assert.equal([node.told, node.isOver], [[], null])
})

test("forced, pods are cut off: links, flows and journal; their addresses are nobody's", async ({ node }) => {
  await node.addPod('web', 1)
  const unknown = await node.addPod('lost', 2)
  await node.journal({ t: 'gone', id: attachmentId('twill', 'lost', 'eth0') })
  assert.is(await codeOf(node.takeOff()), 'resource.in-use')
  await node.takeOff(true)
  await assertClear(node)
  assert.is(node.kernel.namespace('/run/netns/web')?.links.has('eth0'), false)
  assert.equal([...node.kernel.flushed].sort(), ['10.64.9.1', '10.64.9.2'])
  assert.ok(node.told.includes(`removed link ${unknown}`))
  assert.is(node.isOver?.(holder(attachmentId('twill', 'web', 'eth0'))), true)
  await node.withLocal(async local => assert.is(local.found.attachments.size, 0))
})

test('a pod whose DEL found no daemon lives no more: its link is gone', async ({ node }) => {
  const link = await node.addPod('web', 1)
  node.kernel.node.removeLink(link)
  await node.takeOff()
  await assertClear(node)
})

test('an interface of another plugin keeps its address: refused, and forced it is not given away', async ({
  node,
}) => {
  const id = await node.addLease('lent')
  const before = node.look()
  const refusal = await node.takeOff().catch(error => error as TwillError)
  assert.ok(isTwillError(refusal, 'resource.in-use'))
  assert.match(refusal.message, /1 interface of other plugins .*default\/lent/)
  assert.is(node.look(), before)
  await node.takeOff(true)
  assert.is(node.isOver?.({ ...holder(id), kind: 'ipam' }), false)
  assert.is(node.isOver?.({ ...holder('ipam-of-the-ledger'), kind: 'ipam' }), false)
})

for (const [what, file, boot, lives] of [
  ['whose DEL is filed', (node: Node, id: string) => node.fileDel(id, 100), BOOT, false],
  ['begun after the DEL that is filed', (node: Node, id: string) => node.fileDel(id, 99), BOOT, true],
  [
    'of whom a DEL of another boot is filed',
    (node: Node, id: string) => node.fileDel(id, 100, 'boot:0'),
    BOOT,
    true,
  ],
  ['beside which a DEL of another is filed', (node: Node) => node.fileDel('ipam-0', 100), BOOT, true],
  ['of an earlier boot', () => undefined, 'boot:0', false],
] as const)
  test(`a lease ${what} ${lives ? 'lives' : 'is over'}`, async ({ node }) => {
    const id = await node.addLease('lent', { boot })
    file(node, id)
    assert.is(await codeOf(node.takeOff()), lives ? 'resource.in-use' : 'done')
    if (!lives) assert.is(node.isOver?.({ ...holder(id), kind: 'ipam' }), true)
  })

const broken = () => new Error('broken')

test('stopped at any step, the next run does the rest', async ({ node }) => {
  await node.addPod('web', 1)
  const steps = [
    'readLinks',
    'readAddresses',
    'apply',
    'reapLinks',
    'ensureAcceptChains',
    'removeRuleset',
  ] as const
  for (const step of steps) {
    node.kernel.failNext(step, broken())
    assert.is(await codeOf(node.takeOff(true)), 'broken', step)
    assert.is(node.isOver, null, 'the cluster is left when the kernel is clear, not before')
  }
  node.kubernetes = async () => Promise.reject(broken())
  assert.is(await codeOf(node.takeOff(true)), 'broken')
  node.kubernetes = null
  node.failure = broken()
  assert.is(await codeOf(node.takeOff(true)), 'broken')
  node.failure = null
  await node.takeOff()
  await assertClear(node)
  assert.is(node.isOver === null, false)
})

test('an object that cannot be deleted is tried again, then named; the cluster is not left', async ({
  node,
}) => {
  node.kernel.failNext('link.delete', broken())
  await node.takeOff()
  await assertClear(node)
  const again = await Node.make()
  for (let i = 0; i < 3; i++) again.kernel.failNext('link.delete', broken())
  const failure = await again.takeOff().catch(error => error as TwillError)
  assert.ok(isTwillError(failure, 'kernel.failed'))
  assert.match(failure.message, /link twill-vx4 \(broken\)/)
  assert.is(again.isOver, null)
  rmSync(again.root, { recursive: true })
})

test('a datastore or an API server that is away is told of, with what to do, and holds up nothing', async ({
  node,
}) => {
  node.failure = new TwillError('store.unavailable', 'no answer')
  node.kubernetes = async () => Promise.reject(new TwillError('kubernetes.unavailable', 'no route'))
  await node.takeOff()
  await assertClear(node)
  assert.match(node.told[0] ?? '', /^stays: Node node1 in Kubernetes .*no route/)
  assert.match(
    node.told.at(-1) ?? '',
    /^stays: the cluster was not left \(no answer\).*twillctl delete node node1$/,
  )
})

test('what others put there is left to them, and said', async ({ node }) => {
  node.config.cni.conflist = null
  await node.takeOff()
  assert.ok(existsSync(join(node.root, 'net.d/10-twill.conflist')))
  assert.match(node.told[0] ?? '', /^stays: the network configuration/)
})

test('a journal that knows of no cluster has nothing to leave', async ({ node }) => {
  rmSync(join(node.config.stateDir, 'journal'))
  await node.takeOff()
  assert.is(node.isOver, null)
  assert.match(node.told.at(-1) ?? '', /knows of no cluster; .*twillctl delete node node1/)
})

test('state: every file of ours goes, and the folders with them', async ({ node }) => {
  node.fileDel('x', 1)
  await node.takeOff()
  assert.equal(await removeState(node.config), { gone: [node.config.stateDir, node.config.runDir], kept: [] })
  assert.equal(readdirSync(node.root).sort(), ['bin', 'net.d'])
  assert.equal((await removeState(node.config)).kept, [])
})

test('state: a folder in which others keep things stays, with them', async ({ node }) => {
  const { stateDir, runDir } = node.config
  mkdirSync(join(stateDir, 'etcd'))
  writeFileSync(join(stateDir, 'journal.mine'), '')
  assert.equal(await removeState(node.config), {
    gone: [runDir],
    kept: [`${stateDir}: others keep etcd, journal.mine there`],
  })
})

test("what is not a file of ours stays: a folder at the place of the configuration, others' files in a folder called spool", async ({
  node,
}) => {
  const { stateDir, runDir, cni } = node.config
  const netd = join(node.root, 'net.d')
  cni.conflist = netd
  await node.takeOff().then(
    () => assert.unreachable(),
    error => assert.match(error.message, /directory.*net\.d/),
  )
  assert.ok(existsSync(join(netd, '99-other.conf')))
  const spool = join(stateDir, 'spool')
  for (const name of ['a.json', '.a.tmp', '.refused-b.json', 'mail']) writeFileSync(join(spool, name), '')
  assert.equal(await removeState(node.config), {
    gone: [runDir],
    kept: [`${stateDir}: others keep spool there`],
  })
  assert.equal(readdirSync(spool), ['mail'])
})

test('Kubernetes hears once that the network is unavailable; of a Node that is gone, never', async () => {
  const asked: unknown[] = []
  let conditions: object[] = [{ type: 'NetworkUnavailable', status: 'False', reason: 'TwillIsUp' }]
  const client = {
    async request(method: string, path: string, options?: { body?: object }) {
      asked.push([method, path])
      if (path.includes('absent'))
        throw new TwillError('kubernetes.not-found', 'no such node', { reason: 'NotFound' })
      if (method === 'PATCH')
        conditions = (options as { body: { status: { conditions: object[] } } }).body.status.conditions
      return { metadata: { name: 'node1', uid: 'u', resourceVersion: '1' }, status: { conditions } } as never
    },
  }
  const modules = { client, clock: systemClock }
  assert.is(await sayUnavailable('node1', modules), true)
  assert.match(JSON.stringify(conditions), /"status":"True","reason":"TwillIsUninstalled"/)
  assert.is(await sayUnavailable('node1', modules), false)
  assert.is(await sayUnavailable('absent', modules), false)
  assert.equal(asked, [
    ['GET', '/api/v1/nodes/node1'],
    ['PATCH', '/api/v1/nodes/node1/status'],
    ['GET', '/api/v1/nodes/node1'],
    ['GET', '/api/v1/nodes/absent'],
  ])
})

test('the last node lets pools of Kubernetes go, and none before it', async ({ node }) => {
  let asked = 0
  node.pools = async () => {
    asked++
    return ['a', 'b']
  }
  await node.takeOff()
  assert.is(asked, 0)
  node.isLast = true
  await node.takeOff()
  assert.match(node.told.at(-1) ?? '', /last node: .*\(a, b\)/)
  node.pools = async () => Promise.reject(new TwillError('kubernetes.unavailable', 'no route'))
  await node.takeOff()
  assert.match(node.told.at(-1) ?? '', /^stays: the finalizer twill\.network\/pool .*no route/)
})

test('a pool of any page is let go by its finalizer of ours alone; one that is gone meanwhile is none that fails', async () => {
  const put: unknown[] = []
  const metadata = (name: string, finalizers?: string[]) => ({
    name,
    uid: name,
    resourceVersion: '7',
    finalizers,
  })
  const items = [
    {
      metadata: metadata('ours', ['twill.network/pool', 'example.com/other']),
      spec: { cidr: '10.0.0.0/16' },
    },
    { metadata: metadata('free', ['example.com/other']) },
    { metadata: metadata('bare') },
    { metadata: metadata('gone', ['twill.network/pool']) },
  ]
  // A page ends where the server wants, and what it remembers of a list may end before the list does.
  let forgotten = false
  const pageOf = (token: unknown) => {
    if (token === undefined) return page(9, items.slice(0, 3), 'more')
    if (forgotten) return page(9, items.slice(3))
    forgotten = true
    throw new TwillError('kubernetes.gone', 'the continue token is too old')
  }
  const client = {
    async request(method: string, path: string, options?: { body?: object; query?: Query }) {
      if (method === 'GET') return pageOf(options?.query?.continue) as never
      if (path.endsWith('/gone')) throw new TwillError('kubernetes.not-found', 'no such pool')
      put.push([path, options?.body])
      return {} as never
    },
  }
  assert.equal(await letPoolsGo(client), ['ours', 'gone'])
  assert.equal(put, [
    [
      '/apis/twill.network/v1alpha1/ippools/ours',
      { metadata: metadata('ours', ['example.com/other']), spec: { cidr: '10.0.0.0/16' } },
    ],
  ])
})

test.run()
