/** What every Kernel does; see kernel.test.ts for who is put to it. */
import type { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { Kernel, KernelStep, PodEndpointSpec } from '../../kernel/kernel.ts'
import { HOST_MAC, REAP_GROUP, ROUTE_PROTOCOL } from '../../kernel/ownership.ts'
import { isTwillError } from '../../lib/errors.ts'
import { podSpec, type World } from './kernel-world.ts'

type Test = ReturnType<typeof suite>

const RULESET = {
  chains: 'set pods { type ifname . ipv4_addr; }\nchain forward { type filter hook forward priority 0; }',
  elements: new Map([['pods', new Set<string>()]]),
}
const element = (spec: PodEndpointSpec) => ({
  set: 'pods',
  element: `"${spec.hostInterface}" . ${spec.addresses[0]?.address}`,
})

async function rejects(work: Promise<unknown>, code: string): Promise<Error> {
  try {
    await work
  } catch (error) {
    assert.is(isTwillError(error) && error.code, code, String(error))
    return error as Error
  }
  throw new Error(`expected ${code}, but it succeeded`)
}

async function applied(kernel: Kernel, steps: KernelStep[]): Promise<void> {
  for (const { step, error } of await kernel.apply(steps)) assert.is(error, null, `${step.type}: ${error}`)
}

/** Nothing is left on the node of what pods had. */
async function assertNoPods(kernel: Kernel): Promise<void> {
  const links = (await kernel.readLinks()).filter(({ name }) => name.startsWith('twl'))
  assert.equal(links, [])
  assert.equal(await kernel.readRoutes({ protocol: ROUTE_PROTOCOL }), [])
  assert.equal(
    (await kernel.readNeighbours()).filter(({ device }) => device.startsWith('twl')),
    [],
  )
}

export function podContract(test: Test, world: () => World): void {
  test('an attached pod has its link, addresses, routes and neighbours on both sides', async () => {
    const { kernel, addNamespace, removeNamespace } = world()
    const netns = addNamespace('both')
    const spec = podSpec(1, netns)
    const endpoint = await kernel.attachPod(spec, [])
    const link = (await kernel.readLinks()).find(({ name }) => name === spec.hostInterface)
    assert.is(link?.index, endpoint.hostIndex)
    assert.is(link?.mac, HOST_MAC)
    assert.is(link?.alias, spec.alias)
    assert.is(link?.mtu, 1450)
    assert.ok(link?.up)
    const routes = await kernel.readRoutes({ protocol: ROUTE_PROTOCOL })
    assert.equal(
      routes.map(({ dst, device, src }) => ({ dst, device, src })),
      [
        { dst: '10.64.0.1/32', device: spec.hostInterface, src: '192.0.2.1' },
        { dst: 'fd64::1/128', device: spec.hostInterface, src: '2001:db8::1' },
      ],
    )
    const neighbours = (await kernel.readNeighbours()).filter(({ device }) => device === spec.hostInterface)
    assert.equal(
      neighbours.map(({ address, mac, permanent }) => ({ address, mac, permanent })),
      [
        { address: '10.64.0.1', mac: spec.podMac, permanent: true },
        { address: 'fd64::1', mac: spec.podMac, permanent: true },
      ],
    )
    const { pod, netnsCookie } = await kernel.inspectPod(netns, 'eth0')
    assert.is(netnsCookie, endpoint.netnsCookie)
    assert.is(pod?.index, endpoint.podIndex)
    assert.is(pod?.mac, spec.podMac)
    assert.is(pod?.peerIndex, endpoint.hostIndex)
    assert.ok(pod?.up)
    assert.equal(
      pod?.addresses.filter(({ scope }) => scope === 0).map(a => `${a.address}/${a.prefix}`),
      ['10.64.0.1/32', 'fd64::1/128'],
    )
    const defaults = pod?.routes.filter(({ gateway }) => gateway !== null)
    assert.equal(
      defaults?.map(({ dst, gateway }) => `${dst} ${gateway}`),
      ['0.0.0.0/0 169.254.1.1', '::/0 fe80::1'],
    )
    const gateways = pod?.neighbours.filter(({ permanent }) => permanent)
    assert.equal(gateways?.map(({ address, mac }) => `${address} ${mac}`).sort(), [
      `169.254.1.1 ${HOST_MAC}`,
      `fe80::1 ${HOST_MAC}`,
    ])
    await kernel.detachPod(spec, [])
    await kernel.reapLinks([])
    removeNamespace('both')
    await assertNoPods(kernel)
  })

  test('CNI-131: a detached pod is down and without address at once; detaching again succeeds', async () => {
    const { kernel, addNamespace, removeNamespace } = world()
    const netns = addNamespace('down')
    const spec = podSpec(2, netns)
    const { netnsCookie } = await kernel.attachPod(spec, [])
    await kernel.detachPod({ ...spec, netnsCookie }, [])
    const { pod } = await kernel.inspectPod(netns, 'eth0')
    assert.is(pod?.up, false)
    assert.equal(pod?.addresses, [])
    const link = (await kernel.readLinks()).find(({ name }) => name === spec.hostInterface)
    assert.is(link?.group, REAP_GROUP)
    assert.equal(await kernel.readRoutes({ protocol: ROUTE_PROTOCOL }), [])
    await kernel.detachPod({ ...spec, netnsCookie }, [])
    assert.equal(await kernel.reapLinks([]), { deleted: [spec.hostInterface], foreign: [] })
    assert.is((await kernel.inspectPod(netns, 'eth0')).pod, null)
    await kernel.detachPod({ ...spec, netnsCookie }, [])
    await kernel.detachPod({ ...spec, netns: null }, [])
    removeNamespace('down')
    await kernel.detachPod({ ...spec, netnsCookie }, [])
    await assertNoPods(kernel)
  })

  test('CNI-132: without its namespace, the host side of a pod is undone', async () => {
    const { kernel, addNamespace, removeNamespace } = world()
    const spec = podSpec(3, addNamespace('lost'))
    await kernel.attachPod(spec, [])
    await kernel.detachPod({ ...spec, netns: null }, [])
    assert.equal((await kernel.reapLinks([])).deleted, [spec.hostInterface])
    removeNamespace('lost')
    await assertNoPods(kernel)
  })

  test('an interface that is there already is left alone', async () => {
    const { kernel, addNamespace, removeNamespace } = world()
    const netns = addNamespace('taken')
    const first = podSpec(4, netns)
    const before = await kernel.attachPod(first, [])
    await rejects(kernel.attachPod(podSpec(5, netns), []), 'kernel.interface-exists')
    assert.is((await kernel.inspectPod(netns, 'eth0')).pod?.peerIndex, before.hostIndex)
    assert.is(
      (await kernel.readLinks()).some(({ name }) => name === podSpec(5, netns).hostInterface),
      false,
    )
    await kernel.detachPod(first, [])
    await kernel.reapLinks([])
    removeNamespace('taken')
    await assertNoPods(kernel)
  })

  test('an attach that meets a link of ours awaiting deletion waits for it', async () => {
    const { kernel, addNamespace, removeNamespace } = world()
    const netns = addNamespace('again')
    await kernel.attachPod(podSpec(6, netns), [])
    await kernel.detachPod(podSpec(6, netns), [])
    const endpoint = await kernel.attachPod(podSpec(7, netns), [])
    assert.is((await kernel.inspectPod(netns, 'eth0')).pod?.index, endpoint.podIndex)
    await kernel.detachPod(podSpec(7, netns), [])
    await kernel.reapLinks([])
    removeNamespace('again')
    await assertNoPods(kernel)
  })

  test('CNI-137: a path recycled for another pod is not touched', async () => {
    const { kernel, addNamespace, removeNamespace } = world()
    const old = podSpec(8, addNamespace('recycled'))
    const { netnsCookie } = await kernel.attachPod(old, [])
    removeNamespace('recycled')
    const netns = addNamespace('recycled')
    const successor = podSpec(9, netns, { podMac: old.podMac })
    await kernel.attachPod(successor, [])
    // Even when the inode number is the same, the cookie is not.
    await kernel.detachPod({ ...old, netns, netnsCookie }, [])
    await kernel.detachPod({ ...old, netns: { ...netns, dev: null, ino: null }, netnsCookie }, [])
    const { pod } = await kernel.inspectPod(netns, 'eth0')
    assert.ok(pod?.up)
    assert.ok(pod?.addresses.some(({ address }) => address === '10.64.0.9'))
    await rejects(
      kernel.attachPod(podSpec(10, netns, { podInterface: 'eth1', netnsCookie }), []),
      'kernel.netns-mismatch',
    )
    await kernel.detachPod(successor, [])
    await kernel.reapLinks([])
    removeNamespace('recycled')
    await assertNoPods(kernel)
  })

  test('a namespace that is gone or means another one is refused before anything is touched', async () => {
    const { kernel, addNamespace, removeNamespace } = world()
    const netns = addNamespace('other')
    const gone = { path: '/run/netns/nowhere', dev: null, ino: null }
    const other = { ...netns, ino: '1' }
    await rejects(kernel.attachPod(podSpec(11, gone), []), 'kernel.netns-gone')
    await rejects(kernel.attachPod(podSpec(11, other), []), 'kernel.netns-mismatch')
    await rejects(kernel.inspectPod(gone, 'eth0'), 'kernel.netns-gone')
    await rejects(kernel.netnsCookie(other), 'kernel.netns-mismatch')
    assert.is.not(await kernel.netnsCookie(netns), await kernel.ownNetnsCookie())
    removeNamespace('other')
    await assertNoPods(kernel)
  })

  test('a route whose source the node does not have goes without it', async () => {
    const { kernel, addNamespace, removeNamespace } = world()
    const netns = addNamespace('nosrc')
    const addresses = [{ family: 4, address: '10.64.0.12', routeSource: '192.0.2.99' }] as const
    const spec = podSpec(12, netns, { addresses })
    await kernel.attachPod(spec, [])
    const [route] = await kernel.readRoutes({ protocol: ROUTE_PROTOCOL })
    assert.is(route?.src, null)
    await kernel.detachPod(spec, [])
    await kernel.reapLinks([])
    removeNamespace('nosrc')
    await assertNoPods(kernel)
  })

  test('a foreign link in the group of the deleted is spared, and named', async () => {
    const { kernel, addNamespace, removeNamespace, addForeignLink, removeLink } = world()
    const spec = podSpec(13, addNamespace('spared'))
    addForeignLink('stranger', REAP_GROUP)
    await kernel.attachPod(spec, [])
    await kernel.detachPod(spec, [])
    assert.equal(await kernel.reapLinks([]), { deleted: [spec.hostInterface], foreign: ['stranger'] })
    assert.ok((await kernel.readLinks()).some(({ name }) => name === 'stranger'))
    removeLink('stranger')
    removeNamespace('spared')
    await assertNoPods(kernel)
  })

  test('policy elements come with the pod and go with it; a pod whose elements fail leaves nothing', async () => {
    const { kernel, addNamespace, removeNamespace, deleteTable } = world()
    const netns = addNamespace('policy')
    const spec = podSpec(14, netns)
    await kernel.replaceRuleset(RULESET)
    assert.is(await kernel.rulesetIntact(), true)
    await kernel.attachPod(spec, [element(spec)])
    await kernel.changeElements({ add: [element(spec)], remove: [] })
    await kernel.detachPod(spec, [element(spec)])
    await kernel.changeElements({ add: [], remove: [element(spec)] })
    assert.is(await kernel.rulesetIntact(), true)
    await kernel.reapLinks([])
    const unknown = { set: 'nonesuch', element: '10.0.0.1' }
    await rejects(kernel.attachPod(spec, [unknown]), 'kernel.failed')
    assert.is((await kernel.inspectPod(netns, 'eth0')).pod, null)
    await kernel.attachPod(spec, [element(spec)])
    deleteTable()
    assert.is(await kernel.rulesetIntact(), false)
    await kernel.detachPod(spec, [element(spec)])
    assert.equal((await kernel.reapLinks([])).deleted, [spec.hostInterface])
    removeNamespace('policy')
    await assertNoPods(kernel)
  })

  test('a host end that is deleted takes the pod end with it, and the route to the pod', async () => {
    const { kernel, addNamespace, removeNamespace } = world()
    const netns = addNamespace('cut')
    const spec = podSpec(32, netns)
    await kernel.attachPod(spec, [])
    await applied(kernel, [{ type: 'link.delete', device: spec.hostInterface }])
    assert.is((await kernel.inspectPod(netns, 'eth0')).pod, null)
    removeNamespace('cut')
    await assertNoPods(kernel)
  })

  test('the table is taken away, once, and may be made again', async () => {
    const { kernel, policies } = world()
    const some = element(podSpec(31, { path: '', dev: null, ino: null }))
    await kernel.replaceRuleset(RULESET)
    assert.is(await kernel.removeRuleset(), true)
    await rejects(kernel.changeElements({ add: [some], remove: [] }), 'kernel.failed')
    assert.is(await kernel.rulesetIntact(), false)
    assert.is(await kernel.removeRuleset(), false)
    await kernel.replaceRuleset(RULESET)
    assert.is(await kernel.rulesetIntact(), true)
    assert.equal(policies(), [])
  })

  test('an attached pod that cannot be attached again keeps its policy', async () => {
    const { kernel, addNamespace, removeNamespace, policies } = world()
    await kernel.replaceRuleset(RULESET)
    const spec = podSpec(30, addNamespace('again'))
    const { netnsCookie } = await kernel.attachPod(spec, [element(spec)])
    const again = kernel.attachPod({ ...spec, netnsCookie }, [element(spec)])
    assert.is(
      await again.then(
        () => 'attached',
        () => 'refused',
      ),
      'refused',
    )
    assert.equal(policies(), [spec.hostInterface])
    assert.is(await kernel.rulesetIntact(), true)
    await kernel.detachPod(spec, [element(spec)])
    assert.equal(policies(), [])
    await kernel.reapLinks([])
    removeNamespace('again')
    await assertNoPods(kernel)
  })

  test('of pods that come and go together, those that fail leave nothing and hold up nobody', async () => {
    const { kernel, addNamespace, removeNamespace, policies } = world()
    await kernel.replaceRuleset(RULESET)
    const names = ['many0', 'many1', 'many2', 'many3']
    const specs = names.map((name, i) => podSpec(20 + i, addNamespace(name)))
    const [good, gone, unknown, other] = specs as [
      PodEndpointSpec,
      PodEndpointSpec,
      PodEndpointSpec,
      PodEndpointSpec,
    ]
    removeNamespace('many1')
    const attached = await Promise.allSettled([
      kernel.attachPod(good, [element(good)]),
      kernel.attachPod(gone, [element(gone)]),
      kernel.attachPod(unknown, [{ set: 'nonesuch', element: '10.0.0.1' }]),
      kernel.attachPod(other, [element(other)]),
    ])
    assert.equal(
      attached.map(({ status }) => status),
      ['fulfilled', 'rejected', 'rejected', 'fulfilled'],
    )
    assert.is(await kernel.rulesetIntact(), true)
    const both = [good.hostInterface, other.hostInterface].sort()
    assert.equal(policies(), both)
    const hosts = (await kernel.readLinks())
      .filter(({ name }) => name.startsWith('twl'))
      .map(({ name }) => name)
    assert.equal(hosts.sort(), both)
    await Promise.all([good, other].map(spec => kernel.detachPod(spec, [element(spec)])))
    assert.equal(policies(), [])
    await kernel.reapLinks([])
    for (const name of ['many0', 'many2', 'many3']) removeNamespace(name)
    await assertNoPods(kernel)
  })
}

const VXLAN = {
  type: 'vxlan.add',
  name: 'twill-vx4',
  mac: '02:00:00:00:aa:01',
  mtu: 1450,
  alias: 'twill:vxlan',
  vxlan: { vni: 84, port: 4789, local: '192.0.2.1', underlay: 'lo', learning: false },
} as const

export function nodeContract(test: Test, world: () => World): void {
  test('an overlay: device, addresses, routes, neighbours and FDB are as applied, and applying again succeeds', async () => {
    const { kernel } = world()
    const steps: KernelStep[] = [
      VXLAN,
      { type: 'link.set', device: 'twill-vx4', up: true },
      {
        type: 'address.add',
        device: 'twill-vx4',
        family: 4,
        address: '10.64.9.9',
        prefix: 32,
        scope: 0,
        nodad: false,
      },
      {
        type: 'address.add',
        device: 'twill-vx4',
        family: 6,
        address: 'fd64::9:9',
        prefix: 128,
        scope: 0,
        nodad: true,
      },
      {
        type: 'neighbour.replace',
        device: 'twill-vx4',
        family: 4,
        address: '10.64.8.0',
        mac: '02:00:00:00:aa:02',
      },
      { type: 'fdb.replace', device: 'twill-vx4', mac: '02:00:00:00:aa:02', dst: '192.0.2.2' },
      {
        type: 'route.replace',
        route: {
          family: 4,
          dst: '10.64.8.0/24',
          type: 'unicast',
          device: 'twill-vx4',
          gateway: '10.64.8.0',
          src: '10.64.9.9',
          onlink: true,
        },
      },
      {
        type: 'route.replace',
        route: { family: 4, dst: '10.64.0.0/16', type: 'unreachable', metric: 4278198272 },
      },
      { type: 'route.replace', route: { family: 6, dst: 'fd64::/64', type: 'blackhole' } },
    ]
    await applied(kernel, steps)
    await applied(kernel, steps)
    const link = (await kernel.readLinks()).find(({ name }) => name === 'twill-vx4')
    assert.is(link?.mac, VXLAN.mac)
    assert.is(link?.alias, VXLAN.alias)
    assert.is(link?.kind, 'vxlan')
    assert.equal(link?.vxlan, VXLAN.vxlan)
    assert.equal(
      (await kernel.readAddresses())
        .filter(a => a.device === 'twill-vx4' && a.scope === 0)
        .map(a => `${a.address}/${a.prefix}`),
      ['10.64.9.9/32', 'fd64::9:9/128'],
    )
    assert.equal(await kernel.readFdb('twill-vx4'), [
      { device: 'twill-vx4', mac: '02:00:00:00:aa:02', dst: '192.0.2.2', permanent: true },
    ])
    const routes = await kernel.readRoutes({ protocol: ROUTE_PROTOCOL })
    assert.equal(routes.map(r => [r.dst, r.type, r.device, r.gateway, r.src, r.metric, r.onlink]).sort(), [
      ['10.64.0.0/16', 'unreachable', null, null, null, 4278198272, false],
      ['10.64.8.0/24', 'unicast', 'twill-vx4', '10.64.8.0', '10.64.9.9', 0, true],
      ['fd64::/64', 'blackhole', null, null, null, 1024, false],
    ])
    const toRemote = await kernel.lookupRoute('10.64.8.77')
    assert.equal([toRemote.device, toRemote.src], ['twill-vx4', '10.64.9.9'])
    await rejects(kernel.lookupRoute('10.64.7.1'), 'kernel.failed')
    await takeDown(kernel)
  })

  async function takeDown(kernel: Kernel): Promise<void> {
    const steps: KernelStep[] = [
      { type: 'fdb.delete', device: 'twill-vx4', mac: '02:00:00:00:aa:02', dst: '192.0.2.2' },
      { type: 'neighbour.delete', device: 'twill-vx4', family: 4, address: '10.64.8.0' },
      {
        type: 'route.delete',
        route: { family: 4, dst: '10.64.0.0/16', type: 'unreachable', metric: 4278198272 },
      },
      { type: 'route.delete', route: { family: 6, dst: 'fd64::/64', type: 'blackhole' } },
      { type: 'address.delete', device: 'twill-vx4', family: 4, address: '10.64.9.9', prefix: 32 },
    ]
    await applied(kernel, steps)
    assert.equal(await kernel.readFdb('twill-vx4'), [])
    // The kernel deletes an IPv4 route with the address that is its source, without a word.
    assert.equal(await kernel.readRoutes({ protocol: ROUTE_PROTOCOL }), [])
    await applied(kernel, [...steps, { type: 'link.delete', device: 'twill-vx4' }])
    await applied(kernel, [...steps, { type: 'link.delete', device: 'twill-vx4' }])
    assert.is(
      (await kernel.readLinks()).some(({ name }) => name === 'twill-vx4'),
      false,
    )
  }

  test('a device of that name with other attributes is not taken for the same', async () => {
    const { kernel } = world()
    await applied(kernel, [VXLAN])
    const [outcome] = await kernel.apply([{ ...VXLAN, vxlan: { ...VXLAN.vxlan, port: 4790 } }])
    assert.match(String(outcome?.error?.message), /EEXIST/)
    await applied(kernel, [{ type: 'link.delete', device: 'twill-vx4' }])
  })

  test('a second device of the same VNI and port is refused as such', async () => {
    const { kernel } = world()
    await applied(kernel, [VXLAN])
    const [outcome] = await kernel.apply([{ ...VXLAN, name: 'twill-vx6', mac: '02:00:00:00:aa:03' }])
    assert.match(String(outcome?.error?.message), /EEXIST/)
    await applied(kernel, [{ type: 'link.delete', device: 'twill-vx4' }])
  })

  test('a failed step names its cause and stops nobody', async () => {
    const { kernel } = world()
    const outcomes = await kernel.apply([
      { type: 'route.replace', route: { family: 4, dst: '10.65.0.0/24', type: 'blackhole' } },
      {
        type: 'address.add',
        device: 'nowhere',
        family: 4,
        address: '10.65.0.1',
        prefix: 32,
        scope: 0,
        nodad: false,
      },
      {
        type: 'route.replace',
        route: { family: 4, dst: '10.65.2.0/24', type: 'unicast', device: 'lo', src: '10.9.9.9' },
      },
      { type: 'sysctl.set', path: 'net/ipv4/nonesuch', value: '1' },
      { type: 'route.replace', route: { family: 4, dst: '10.65.1.0/24', type: 'blackhole' } },
    ])
    const errnos = outcomes.map(({ error }) => (isTwillError(error) ? error.data.errno : error))
    assert.equal(errnos, [null, 'ENODEV', 'EINVAL', 'ENOENT', null])
    const routes = await kernel.readRoutes({ protocol: ROUTE_PROTOCOL })
    assert.equal(routes.map(({ dst }) => dst).sort(), ['10.65.0.0/24', '10.65.1.0/24'])
    for (const { dst } of routes)
      await applied(kernel, [{ type: 'route.delete', route: { family: 4, dst, type: 'blackhole' } }])
    assert.equal(await kernel.readRoutes({ protocol: ROUTE_PROTOCOL }), [])
  })

  test('sysctls are read, written, and missing where there are none', async () => {
    const { kernel } = world()
    assert.is(await kernel.readSysctl('net/ipv4/ip_forward'), '1')
    await applied(kernel, [{ type: 'sysctl.set', path: 'net/ipv4/ip_forward', value: '0' }])
    assert.is(await kernel.readSysctl('net/ipv4/ip_forward'), '0')
    await applied(kernel, [{ type: 'sysctl.set', path: 'net/ipv4/ip_forward', value: '1' }])
    assert.is(await kernel.readSysctl('net/ipv4/nonesuch'), null)
  })
}
