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
import { enterOwnNamespaces } from './kernel-world.ts'

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

test('a buffer that overflowed is reported, and the monitor goes on', () => {
  const events = monitored({ receiveBufferBytes: 8192 }, [], routes(72, 500))
  assert.ok(events.some(({ type }) => type === 'overflow'))
  assert.ok(events.some(event => event.type === 'changed' && event.domain === 'route'))
})

test.run()
