/**
 * Every packet that must not pass, put on the wire by hand in a rig with real daemons. Beside each goes its twin that
 * differs in the one point and must pass: what was dropped was not lost.
 */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { Cluster } from '../../hack/rig/cluster.ts'
import { nodeLayout, UNDERLAY } from '../../hack/rig/layout.ts'
import { until } from '../../hack/rig/processes.ts'
import { HOST_MAC, VXLAN_LINK } from '../../kernel/ownership.ts'
import { ETHERTYPE, ethernet, icmp, ip, udp, vxlan } from '../fixtures/frames.ts'
import type { Wire } from '../fixtures/netns-lab.ts'
import { readStatus } from '../fixtures/node-state.ts'
import { leakCount, macOf, NO_LEAK, ping, pings, sendUdp, v4, v6, wireOf } from '../fixtures/talk.ts'

const rig = new Cluster(`twq-drops-${process.pid}`)
const test = suite('overlay drops')

const ARRIVES_MS = 20_000
const FAMILIES = [
  { name: 'IPv4', of: v4 },
  { name: 'IPv6', of: v6 },
] as const

/** Pod → addresses; a and b on node1, c on node2, d on node3. */
const pods = new Map<string, readonly string[]>()
const wires = new Map<string, Wire>()
const macs = new Map<string, string>()

const wire = (pod: string) => wires.get(pod) as Wire
const addressesOf = (pod: string) => pods.get(pod) as readonly string[]

test.before(async () => {
  await rig.up({ nodes: 3 })
  for (const [pod, node] of [
    ['a', 'node1'],
    ['b', 'node1'],
    ['c', 'node2'],
    ['d', 'node3'],
  ] as const) {
    pods.set(pod, (await rig.addPod(node, pod)).addresses)
    wires.set(pod, wireOf(rig, pod))
    macs.set(pod, await macOf(rig, pod))
  }
  // Strict reverse-path filtering would drop much of it for IPv4: what drops here shall be our rules.
  await rig.node('node1').script('for each in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 0 >$each; done')
})
test.after(async () => {
  await rig.down()
})

let marks = 0
/** Payloads that are told apart wherever they arrive. */
const nextMark = (what: string) => Buffer.from(`twq-${what}-${++marks};`)

/**
 * Sends the bad packet, then the good one, and reads what arrives until the good one does.
 * @param make frame or datagram with that payload
 */
async function onlyTheSecondArrives(
  at: Wire,
  bad: (mark: Buffer) => Promise<void> | void,
  good: (mark: Buffer) => Promise<void> | void,
): Promise<void> {
  const [badMark, goodMark] = [nextMark('bad'), nextMark('good')]
  await bad(badMark)
  await good(goodMark)
  const arrived: string[] = []
  const seen = at.receive(Buffer.from('twq-'), ARRIVES_MS, frame => {
    arrived.push(frame.includes(badMark) ? 'bad' : frame.includes(goodMark) ? 'good' : 'earlier')
    return frame.includes(goodMark)
  })
  assert.ok(seen !== null, `the packet that must arrive did not; arrived: ${arrived.join(', ')}`)
  assert.not.ok(arrived.includes('bad'), 'what must be dropped arrived')
}

const typeOf = (address: string) => (address.includes(':') ? ETHERTYPE.ipv6 : ETHERTYPE.ipv4)

/** From a pod's interface, from whatever source. */
function fromPod(
  pod: string,
  source: string,
  destination: string,
  payload: Buffer,
  mac = macs.get(pod),
): void {
  const packet = ip(source, destination, udp(5000, 5001, payload))
  wire(pod).send(ethernet(mac as string, HOST_MAC, typeOf(source), packet))
}

for (const { name, of } of FAMILIES) {
  const own = (pod: string) => of(addressesOf(pod))

  for (const [target, where] of [
    ['b', 'on the node'],
    ['c', 'across nodes'],
  ] as const) {
    test(`${name}: a pod cannot send from another's address, ${where}`, () =>
      onlyTheSecondArrives(
        wire(target),
        mark => fromPod('a', own('d'), own(target), mark),
        mark => fromPod('a', own('a'), own(target), mark),
      ))

    test(`${name}: a pod cannot send from another MAC, ${where}`, () =>
      onlyTheSecondArrives(
        wire(target),
        mark => fromPod('a', own('a'), own(target), mark, '02:00:00:00:66:66'),
        mark => fromPod('a', own('a'), own(target), mark),
      ))
  }

  test(`${name}: a pod cannot send from its neighbour's address and MAC, nor from its node's address`, async () => {
    const node = name === 'IPv4' ? nodeLayout('node1').v4 : nodeLayout('node1').v6
    for (const [source, mac] of [
      [own('b'), macs.get('b')],
      [node, macs.get('a')],
    ] as const)
      await onlyTheSecondArrives(
        wire('c'),
        mark => fromPod('a', source, own('c'), mark, mac),
        mark => fromPod('a', own('a'), own('c'), mark),
      )
  })

  test(`${name}: an address of a pool that nobody claims is unreachable, at once and with nothing sent out`, async () => {
    const unclaimed = await unclaimedAddress(of)
    for (const from of ['a', 'node1', 'c']) {
      const { answered, text } = await ping(rig, from, unclaimed)
      assert.not.ok(answered, text)
      assert.match(text, /unreachable|no route/i)
    }
    await pings(rig, 'a', own('d'))
  })

  test(`${name}: an own address that no pod holds dies without a word`, async () => {
    const free = await freeAddress(of)
    const { answered, text } = await ping(rig, 'a', free, ['-W2'])
    assert.not.ok(answered, text)
    assert.not.match(text, /unreachable/i)
    // From another node as well: it comes through the tunnel and dies here.
    assert.not.ok((await ping(rig, 'd', free, ['-W2'])).answered)
  })

  test(`${name}: a pod's address does not come in by the uplink`, async () => {
    const port = wireOf(rig, 'underlay', 'port1')
    const [gatewayMac, nodeMac] = [await macOf(rig, 'underlay', 'underlay'), await macOf(rig, 'node1')]
    const outside = of(Object.values(UNDERLAY.outside))
    // An answer nobody asked for: nothing comes back.
    const type = name === 'IPv4' ? 0 : 129
    const deliver = (source: string) => (mark: Buffer) => {
      const segment = icmp(name === 'IPv4' ? 4 : 6, type, Buffer.concat([Buffer.from([0, 7, 0, 1]), mark]))
      const packet = ip(source, own('a'), segment)
      port.send(ethernet(gatewayMac, nodeMac, typeOf(source), packet))
    }
    await onlyTheSecondArrives(wire('a'), deliver(own('d')), deliver(outside))
    await onlyTheSecondArrives(wire('a'), deliver(own('b')), deliver(outside))
  })
}

/** One that is in no node's part. */
async function unclaimedAddress(of: typeof v4): Promise<string> {
  const candidates =
    of === v4 ? ['10.244.255.250', '10.244.77.7'] : ['fd00:10:244::fffa', 'fd00:10:244::7777']
  for (const candidate of candidates) {
    const { stdout } = await rig.exec('node1', ['ip', 'route', 'get', candidate])
    if (!/ via | dev twl/.test(stdout)) return candidate
  }
  throw new Error('every candidate is claimed')
}

/** One of node1's own part that nobody holds. */
async function freeAddress(of: typeof v4): Promise<string> {
  const part = (await readStatus(rig, 'node1')).parts.find(({ cidr }) => (of === v4) !== cidr.includes(':'))
  const base = (part?.cidr ?? '').replace(/\/.*/, '')
  // Of 64; the tunnel address and two pods are at its beginning.
  if (of === v4) return base.replace(/\d+$/, last => String(Number(last) + 50))
  return base.replace(/[0-9a-f]+$/, last => (Number.parseInt(last, 16) + 50).toString(16))
}

// ---------------------------------------------------------------- ICMPv6 that only routers send

/** RFC 4861 section 4.2: a router for half an hour; then the mark as an option nobody knows. */
const routerAdvertisement = (mark: Buffer) =>
  icmp(6, 134, Buffer.concat([Buffer.from([64, 0, 0x07, 0x08]), Buffer.alloc(8), option(mark)]))
/** RFC 4861 section 4.5. */
const redirect = (mark: Buffer) => icmp(6, 137, Buffer.concat([Buffer.alloc(36), option(mark)]))
const echo = (mark: Buffer) => icmp(6, 128, Buffer.concat([Buffer.from([0, 7, 0, 1]), mark]))

function option(mark: Buffer): Buffer {
  const units = Math.ceil((mark.length + 2) / 8)
  return Buffer.concat([Buffer.from([253, units]), mark], units * 8)
}

const icmpFromPod = (source: string, destination: string, segment: ReturnType<typeof icmp>) => {
  const target = destination.startsWith('ff') ? '33:33:00:00:00:01' : HOST_MAC
  const packet = ip(source, destination, segment)
  wire('a').send(ethernet(macs.get('a') as string, target, ETHERTYPE.ipv6, packet))
}

for (const [what, segment] of [
  ['router advertisement', routerAdvertisement],
  ['redirect', redirect],
] as const)
  test(`a pod's ${what} reaches no other pod, an echo request does`, async () => {
    const [a, b, c] = ['a', 'b', 'c'].map(pod => v6(addressesOf(pod))) as [string, string, string]
    for (const [target, address] of [
      ['b', b],
      ['c', c],
    ] as const)
      await onlyTheSecondArrives(
        wire(target),
        mark => icmpFromPod(a, address, segment(mark)),
        mark => icmpFromPod(a, address, echo(mark)),
      )
  })

test('a router advertisement of a pod makes it no router of its node, even where the kernel would believe it', async () => {
  const pod = (await readStatus(rig, 'node1')).pods.find(({ pod }) => pod?.name === 'a')
  const hostEnd = pod?.hostInterface as string
  await rig.node('node1').must(['sysctl', '-qw', `net.ipv6.conf.${hostEnd}.accept_ra=2`])
  const linkLocal = (
    await rig.node('node1').must(['ip', 'netns', 'exec', 'a', 'ip', '-6', 'addr', 'show', 'eth0'])
  )
    .match(/inet6 (fe80::[0-9a-f:]+)/)
    ?.at(1) as string
  const heard = async () =>
    /Icmp6InRouterAdvertisements\s+(\d+)/.exec(await rig.node('node1').must(['cat', '/proc/net/snmp6']))?.[1]
  const before = await heard()
  for (const source of [linkLocal, v6(addressesOf('a'))])
    icmpFromPod(source, 'ff02::1', routerAdvertisement(nextMark('ra')))
  await onlyTheSecondArrives(
    wire('b'),
    mark => icmpFromPod(linkLocal, v6(addressesOf('b')), routerAdvertisement(mark)),
    mark => icmpFromPod(v6(addressesOf('a')), v6(addressesOf('b')), echo(mark)),
  )
  const routes = await rig.node('node1').must(['ip', '-6', 'route', 'show', 'default', 'dev', hostEnd])
  assert.is(routes.trim(), '')
  assert.is(await heard(), before, 'the node heard it')
})

// ---------------------------------------------------------------- VXLAN

const VNI = 84
const VXLAN_PORT = 4789

/** What a node's VXLAN device would send to node1 for pod a. */
async function encapsulated(source: string, payload: Buffer, to = 'a'): Promise<Buffer> {
  const destination = source.includes(':') ? v6(addressesOf(to)) : v4(addressesOf(to))
  const inner = ip(source, destination, udp(5000, 5001, payload))
  const vtep = await macOf(rig, 'node1', VXLAN_LINK[4])
  return vxlan(VNI, ethernet('02:00:00:00:77:77', vtep, typeOf(source), inner))
}

const NODE1 = nodeLayout('node1').v4

for (const { name, of } of FAMILIES) {
  const own = (pod: string) => of(addressesOf(pod))
  const sends =
    (where: string, source: string, host = NODE1) =>
    async (mark: Buffer) =>
      sendUdp(rig, where, host, VXLAN_PORT, await encapsulated(source, mark))

  test(`VXLAN with inner ${name} from an underlay address that is no node's is dropped`, () =>
    onlyTheSecondArrives(wire('a'), sends('underlay', own('d')), sends('node3', own('d'))))

  test(`VXLAN with inner ${name} from a node, of a source that lives on another, is dropped`, async () => {
    await onlyTheSecondArrives(wire('a'), sends('node3', own('c')), sends('node3', own('d')))
    await onlyTheSecondArrives(wire('a'), sends('node3', own('b')), sends('node3', own('d')))
    const outside = of(Object.values(UNDERLAY.outside))
    await onlyTheSecondArrives(wire('a'), sends('node3', outside), sends('node3', own('d')))
  })

  test(`VXLAN with inner ${name} from a pod is dropped, although it would come as from its node`, async () => {
    await onlyTheSecondArrives(wire('a'), sends('d', own('d')), sends('node3', own('d')))
    // To its own node, too, with a source that lives elsewhere.
    await onlyTheSecondArrives(wire('a'), sends('b', own('d')), sends('node3', own('d')))
  })
}

test('a pod reaches other UDP ports of a node: it is the port that is closed', async () => {
  const uplink = wireOf(rig, 'node1')
  const mark = nextMark('port')
  await sendUdp(rig, 'd', NODE1, VXLAN_PORT + 1, mark)
  assert.ok(uplink.receive(mark, ARRIVES_MS) !== null)
})

test('the rules count what they drop from pods', async () => {
  const dropped = async () => {
    const chain = await rig.node('node1').must(['nft', 'list', 'chain', 'inet', 'twill', 'from_pod'])
    return Number(/packets (\d+) bytes \d+ drop comment "not from this pod"/.exec(chain)?.[1])
  }
  const before = await dropped()
  fromPod('a', v4(addressesOf('d')), v4(addressesOf('c')), nextMark('counted'))
  await until(
    async () => (await dropped()) > before,
    ARRIVES_MS,
    () => 'not counted',
  )
})

test('nothing of all this put a pod address on the underlay', async () => {
  assert.is(await leakCount(rig), NO_LEAK)
})

test.run()
