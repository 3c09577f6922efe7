/** The monitor by itself, on this thread: condensing, and overflow of its receive buffer. Needs root. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type { KernelEvent, KernelStep } from '../../kernel/kernel.ts'
import { Monitor } from '../../kernel/monitor/monitor.ts'
import { StepExecutor } from '../../kernel/netlink/apply.ts'
import { loadLibc } from '../../kernel/netlink/libc.ts'
import { NetlinkSocket } from '../../kernel/netlink/socket.ts'
import { Sysctls } from '../../kernel/sysctl.ts'
import { systemClock } from '../../lib/clock.ts'
import { enterOwnNamespaces, sh } from './kernel-world.ts'

enterOwnNamespaces()

const libc = loadLibc()
const socket = new NetlinkSocket({ protocol: 0 }, { libc })
const executor = new StepExecutor({}, { socket, sysctls: new Sysctls({ root: '/proc/sys' }) })

/** New ones each time: replacing a route by the same is no change. */
function routes(net: number, count: number): KernelStep[] {
  return Array.from({ length: count }, (_, i) => ({
    type: 'route.replace',
    route: { family: 4, dst: `10.${net}.${i >> 8}.${i & 255}/32`, type: 'blackhole' },
  }))
}

function monitored(options: { receiveBufferBytes?: number }, ownPorts: number[], steps: KernelStep[]) {
  const events: KernelEvent[] = []
  const monitor = new Monitor(
    { condenseMs: 0, ...options },
    { libc, clock: systemClock, emit: event => events.push(event) },
  )
  monitor.start(ownPorts)
  for (const { error } of executor.apply(steps)) assert.is(error, null)
  monitor.wait()
  return events
}

test('many changes of a domain are one event', () => {
  const events = monitored({}, [], routes(70, 500))
  assert.equal(events, [{ type: 'changed', domain: 'route', own: false }])
})

test('changes by our own sockets are marked', () => {
  const events = monitored({}, [socket.portId], routes(71, 500))
  assert.equal(events, [{ type: 'changed', domain: 'route', own: true }])
})

test('changes of host ends and of what stands on them are told from those of other links', () => {
  const events: KernelEvent[] = []
  const monitor = new Monitor(
    { condenseMs: 0 },
    { libc, clock: systemClock, emit: event => events.push(event) },
  )
  monitor.start([])
  const told = (commands: string) => {
    events.length = 0
    sh(commands)
    monitor.wait()
    return new Set(
      events.flatMap(event => (event.type === 'changed' ? [`${event.domain} ${event.pods}`] : [])),
    )
  }
  const onPods = ['link true', 'address true', 'route true', 'neighbour true']
  const build = (device: string, net: number) => `
    ip link add ${device} type vxlan id ${net} dstport 4790; ip link set ${device} up; ip addr add 10.${net}.0.1/32 dev ${device}
    ip route add 10.${net}.0.2/32 dev ${device}
    ip neigh add 10.${net}.0.2 lladdr 02:00:00:00:00:02 dev ${device} nud permanent`
  assert.equal(told(build('twl000000000001', 73)), new Set(onPods))
  const onOthers = ['link undefined', 'address undefined', 'route undefined', 'neighbour undefined']
  assert.equal(told(build('dummy1', 74)), new Set(onOthers))
  // One of each in one report.
  const both = (mtu: number, first: string, second: string) =>
    told(`ip link set ${first} mtu ${mtu}; ip link set ${second} mtu ${mtu}`)
  assert.ok(both(1400, 'twl000000000001', 'dummy1').has('link undefined'))
  assert.ok(both(1300, 'dummy1', 'twl000000000001').has('link undefined'))
  assert.ok(told('ip link set dev twl000000000001 down; ip link del twl000000000001').has('route true'))
  assert.ok(told('ip link add twl000000000002 type vxlan id 75 dstport 4790').has('link true'))
  assert.ok(told('ip link set twl000000000002 name dummy2').has('link undefined'))
})

test('a buffer that overflowed is reported, and the monitor goes on', () => {
  const events = monitored({ receiveBufferBytes: 8192 }, [], routes(72, 500))
  assert.ok(events.some(({ type }) => type === 'overflow'))
  assert.ok(events.some(event => event.type === 'changed' && event.domain === 'route'))
})

test.run()
