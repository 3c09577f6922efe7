/**
 * A kernel as a daemon in a container has it: /proc/sys cannot be written, and the node's processes are elsewhere or
 * nowhere. In namespaces of its own, on the real one.
 */
import { spawn } from 'node:child_process'
import { readlinkSync, statSync } from 'node:fs'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { until } from '../../hack/rig/processes.ts'
import type { HostPaths } from '../../kernel/host-paths.ts'
import type { Kernel, KernelStep } from '../../kernel/kernel.ts'
import { createKernel } from '../../kernel/real.ts'
import { silentLog } from '../../lib/log.ts'
import { enterOwnNamespaces, podSpec, sh } from '../contract/kernel-world.ts'

const test = suite('host paths')

enterOwnNamespaces()

const HOST = '/run/netns/host'
const SWITCH = 'net/ipv4/conf/lo/arp_ignore'
const refOf = (path: string) => {
  const { dev, ino } = statSync(path, { bigint: true })
  return { path, dev: dev.toString(), ino: ino.toString() }
}

/** As runtimes make it: what is below /proc/sys is read only, but for a mount of its net/ elsewhere. */
test.before(() => {
  sh(`mkdir -p ${HOST}/sys/net ${HOST}/proc
mount --bind /proc/sys/net ${HOST}/sys/net
mount --bind /proc ${HOST}/proc
mount --bind /proc/sys /proc/sys
mount -o remount,bind,ro /proc/sys`)
})

async function withKernel(host: HostPaths, use: (kernel: Kernel) => Promise<void>): Promise<void> {
  const kernel = await createKernel({ host }, { log: silentLog })
  try {
    await use(kernel)
  } finally {
    await kernel.close()
  }
}

async function errorOf(work: Promise<unknown>): Promise<string> {
  return work.then(
    () => 'it succeeded',
    (error: Error) => error.message,
  )
}

const setTo = (value: string): KernelStep[] => [{ type: 'sysctl.set', path: SWITCH, value }]

test("switches of the node and of pods are set by way of the node's own /proc/sys", async () => {
  sh('ip netns add inside')
  const spec = podSpec(1, refOf('/run/netns/inside'))
  await withKernel({ sysctls: '/proc/sys', proc: '/proc' }, async kernel => {
    const [outcome] = await kernel.apply(setTo('2'))
    assert.match(String(outcome?.error), /EROFS/)
    assert.match(await errorOf(kernel.attachPod(spec, [])), /EROFS/)
  })
  await withKernel({ sysctls: `${HOST}/sys`, proc: '/proc' }, async kernel => {
    for (const value of ['2', '0']) {
      assert.equal(
        (await kernel.apply(setTo(value))).map(({ error }) => error),
        [null],
      )
      assert.is(await kernel.readSysctl(SWITCH), value)
    }
    await kernel.attachPod(spec, [])
    const inside = sh(`ip netns exec inside cat /proc/sys/net/ipv6/conf/${spec.podInterface}/accept_ra`)
    assert.is(inside, '0\n')
  })
})

test('switches that are nowhere are a mistake, not switches that this kernel does not have', async () => {
  const making = createKernel({ host: { sysctls: '/run/netns/host', proc: null } }, { log: silentLog })
  assert.match(await errorOf(making), /host\.sysctls: there is no \/run\/netns\/host\/net/)
})

test("a namespace given by a process is that of the node's process, and none where those are not seen", async () => {
  const child = spawn('unshare', ['--net', 'sleep', '600'], { stdio: 'ignore' })
  try {
    const path = `/proc/${child.pid}/ns/net`
    const own = readlinkSync('/proc/self/ns/net')
    await until(
      () => readlinkSync(path) !== own,
      10_000,
      () => 'unshare has not moved',
    )
    const ref = refOf(path)
    // Its processes are others: an id of the node's means nobody there.
    sh('mount -t tmpfs tmpfs /run/netns/host/proc')
    const cookieBy = async (proc: string | null) => {
      let said = ''
      await withKernel({ sysctls: '/proc/sys', proc }, async kernel => {
        said = await errorOf(kernel.netnsCookie(ref))
      })
      return said
    }
    assert.is(await cookieBy('/proc'), 'it succeeded')
    assert.match(await cookieBy(`${HOST}/proc`), /cannot be opened.*ENOENT/)
    sh('umount /run/netns/host/proc')
    assert.is(await cookieBy(`${HOST}/proc`), 'it succeeded')
    assert.match(await cookieBy(null), /the node's processes are not seen from here/)
  } finally {
    child.kill('SIGKILL')
  }
})

test.run()
