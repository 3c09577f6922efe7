/**
 * The executable at its border, in both forms, against a daemon that validates with the real code. The table is
 * test/fixtures/cni/cases.ts; what follows it here looks closer at results.
 */
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { VERSIONS } from '../fixtures/cni/case.ts'
import { buildExecutables, localTarget, type Target } from '../fixtures/cni/executables.ts'
import { proveProtocol } from '../fixtures/cni/protocol.ts'
import { type StubDaemon, startStubDaemon } from '../fixtures/cni/stub-daemon.ts'

const built = buildExecutables()
const netnsName = `twe${process.pid}`
const netns = `/run/netns/${netnsName}`
const socket = join(built.folder, 'cni.sock')
const targets: Target[] = ['twill', 'twill-offline'].map(name =>
  localTarget(join(built.bin, name), { TWILL_CNI_SOCKET: socket, TWILL_SPOOL: join(built.folder, 'spool') }),
)

let daemon: StubDaemon

test.before(async () => {
  const made = spawnSync('ip', ['netns', 'add', netnsName], { encoding: 'utf8' })
  assert.is(made.status, 0, made.stderr)
  daemon = await startStubDaemon(socket)
})

test.after(async () => {
  await daemon.close()
  spawnSync('ip', ['netns', 'delete', netnsName])
  built.remove()
})

for (const target of targets)
  proveProtocol(test, target, { netns, hostNetns: `/proc/${process.pid}/ns/net`, detach: false })

test('twill-offline: what only a lonely call needs is a module of its own inside the file', () => {
  assert.ok(readFileSync(join(built.bin, 'twill-offline')).includes('/$bunfs/root/alone-'))
})

// ---------------------------------------------------------------- results in full

const env = {
  CNI_COMMAND: 'ADD',
  CNI_CONTAINERID: 'c1',
  CNI_NETNS: netns,
  CNI_IFNAME: 'net7',
  CNI_PATH: '/opt/cni/bin',
}
const identityOf = (path: string) =>
  spawnSync('stat', ['-L', '-c', '%d %i', path], { encoding: 'utf8' }).stdout.trim().split(' ')
const add = async (target: Target, config: object) => {
  const outcome = await target.run({ env, stdin: JSON.stringify({ name: 'n', type: 'twill', ...config }) })
  assert.is(outcome.status, 0, outcome.stdout)
  return JSON.parse(outcome.stdout)
}

for (const target of targets) {
  for (const cniVersion of VERSIONS)
    test(`${target.name}: CNI-071 to CNI-079 members of a result at ${cniVersion}`, async () => {
      const result = await add(target, { cniVersion })
      const newest = cniVersion === '1.1.0'
      const family = (version: string) => (cniVersion.startsWith('0.') ? { version } : {})
      const mtu = newest ? { mtu: 1450 } : {}
      const extras = newest ? { mtu: 1400, advmss: 1360, priority: 7, table: 254, scope: 0 } : {}
      assert.equal(result, {
        cniVersion,
        interfaces: [
          { name: 'twl0011223344aa', mac: '02:54:57:49:4c:4c', ...mtu },
          { name: 'net7', mac: '02:00:00:00:00:01', sandbox: netns, ...mtu },
        ],
        ips: [
          { ...family('4'), address: '10.244.1.7/32', gateway: '169.254.1.1', interface: 1 },
          { ...family('6'), address: 'fd00:244::7/128', gateway: 'fe80::1', interface: 1 },
        ],
        routes: [
          { dst: '0.0.0.0/0', gw: '169.254.1.1', ...extras },
          { dst: '::/0', gw: 'fe80::1', ...extras },
        ],
      })
    })

  for (const cniVersion of VERSIONS)
    test(`${target.name}: CNI-112 CNI-253 a predecessor's result goes through at ${cniVersion}`, async () => {
      const before = {
        interfaces: [
          { name: 'br0', mac: '02:00:00:00:00:09' },
          { name: 'first0', sandbox: netns },
        ],
        ips: [
          { ...(cniVersion.startsWith('0.') ? { version: '4' } : {}), address: '10.9.0.2/24', interface: 1 },
        ],
        routes: [{ dst: '10.9.0.0/16' }],
        dns: { nameservers: ['10.9.0.1'], domain: 'd', search: ['s'], options: ['o'] },
      }
      const result = await add(target, { cniVersion, prevResult: { cniVersion, ...before } })
      assert.equal(result.interfaces.slice(0, 2), before.interfaces)
      assert.equal(result.ips[0], before.ips[0])
      assert.equal(result.routes[0], before.routes[0])
      assert.equal(result.dns, before.dns)
      assert.equal(
        result.ips.slice(1).map((ip: { interface: number }) => ip.interface),
        [3, 3],
      )
      assert.is(result.interfaces[3].name, 'net7')
    })

  test(`${target.name}: CNI-033 the daemon gets environment, stdin and the namespace's identity as they are`, async () => {
    const stdin = '{"cniVersion":"1.1.0","name":"n","x":"ä\\u0000"}\n'
    await target.run({ env: { ...env, CNI_ARGS: 'A=1;B=ü', OTHER: 'x' }, stdin })
    const request = daemon.requests.at(-1)
    assert.is(request?.program, target.name)
    assert.equal(Object.fromEntries(request?.environment ?? []), { ...env, CNI_ARGS: 'A=1;B=ü' })
    assert.is(Buffer.from(request?.stdin ?? []).toString(), stdin)
    assert.equal([request?.netnsDev, request?.netnsIno], identityOf(netns))
  })

  test(`${target.name}: device and inode of whatever CNI_NETNS names are as stat has them`, async () => {
    for (const CNI_NETNS of [netns, built.folder, '/dev/null', '/proc/self']) {
      await target.run({ env: { ...env, CNI_NETNS }, stdin: '{"cniVersion":"1.1.0","name":"n"}' })
      const request = daemon.requests.at(-1)
      const [dev, ino] = identityOf(CNI_NETNS)
      assert.is(request?.netnsDev, dev)
      if (CNI_NETNS !== '/proc/self') assert.is(request?.netnsIno, ino)
    }
  })

  test(`${target.name}: what keeps stdin from being read is told in words`, async () => {
    const { stdout } = await target.run({ env, stdin: null })
    assert.match(JSON.parse(stdout).details, /directory/i)
  })

  test(`${target.name}: CNI-100 CNI-104 an error of the daemon, on one line each`, async () => {
    daemon.manner = 'refuse'
    try {
      const outcome = await target.run({ env, stdin: '{"cniVersion":"0.4.0","name":"n"}' })
      assert.is(outcome.status, 1)
      assert.equal(JSON.parse(outcome.stdout), {
        cniVersion: '0.4.0',
        code: 11,
        msg: 'the store is away',
        details: 'try again later',
      })
    } finally {
      daemon.manner = 'answer'
    }
  })

  test(`${target.name}: CNI-010 32 calls at once, each its own answer`, async () => {
    const names = Array.from({ length: 32 }, (_, i) => `eth${i}`)
    const outcomes = await Promise.all(
      names.map(CNI_IFNAME =>
        target.run({ env: { ...env, CNI_IFNAME }, stdin: '{"cniVersion":"1.1.0","name":"n"}' }),
      ),
    )
    assert.equal(
      outcomes.map(({ stdout }) => JSON.parse(stdout).interfaces[1].name),
      names,
    )
  })
}

test.run()
