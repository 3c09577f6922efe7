/**
 * The executable while the daemon is away, silent or broken. Links are made in a namespace of the test's own,
 * and the executable runs there, as it would in a node's.
 */
import { spawnSync } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { attachmentId } from '../../cni-bin/attachment-id.ts'
import { parseRequest } from '../../cni-bin/request.ts'
import { decodeSpooled, isSpoolEntry, type SpooledDel } from '../../cni-bin/spool.ts'
import { POD_ALIAS_PREFIX } from '../../kernel/ownership.ts'
import { systemClock } from '../../lib/clock.ts'
import { buildExecutables, localTarget, start } from '../fixtures/cni/executables.ts'
import { type Manner, startStubDaemon } from '../fixtures/cni/stub-daemon.ts'

const built = buildExecutables()
const node = `twe${process.pid}n`
const pod = `twe${process.pid}p`
const FORMS = ['twill', 'twill-offline'] as const
type Form = (typeof FORMS)[number]

const config = JSON.stringify({ cniVersion: '1.1.0', name: 'net', type: 'twill' })
const env = {
  CNI_CONTAINERID: 'c1',
  CNI_NETNS: `/run/netns/${pod}`,
  CNI_IFNAME: 'eth0',
  CNI_PATH: '/opt/cni/bin',
}

function ip(...args: string[]): string {
  const done = spawnSync('ip', args, { encoding: 'utf8' })
  assert.is(done.status, 0, `ip ${args.join(' ')}: ${done.stderr}`)
  return done.stdout
}

test.before(() => {
  ip('netns', 'add', node)
  ip('netns', 'add', pod)
})

test.after(() => {
  for (const name of [node, pod]) spawnSync('ip', ['netns', 'delete', name])
  built.remove()
})

/** A place of its own for each test: socket, spool, sign of life. */
function place(form: Form) {
  const folder = join(built.folder, `${form}-${readdirSync(built.folder).length}`)
  mkdirSync(folder)
  const socket = join(folder, 'cni.sock')
  const spool = join(folder, 'state', 'spool')
  const target = localTarget(
    join(built.bin, form),
    { TWILL_CNI_SOCKET: socket, TWILL_SPOOL: spool, ...env },
    ['ip', 'netns', 'exec', node],
  )
  return { folder, socket, spool, target }
}

function entries(spool: string): SpooledDel[] {
  const names = readdirSync(spool)
  assert.ok(names.every(isSpoolEntry), `nothing half-written is left: ${names}`)
  return names.map(name => decodeSpooled(readFileSync(join(spool, name), 'utf8')))
}

/** A pair like twilld's: the host's end with this alias in the node, the other end in the pod. */
function makePair(hostName: string, alias: string, podName: string): void {
  ip('-n', node, 'link', 'add', hostName, 'type', 'veth', 'peer', 'name', podName, 'netns', pod)
  ip('-n', node, 'link', 'set', hostName, 'alias', alias)
}

const hasLink = (namespace: string, name: string): boolean =>
  spawnSync('ip', ['-n', namespace, 'link', 'show', name]).status === 0

const aliasOf = (containerId: string): string =>
  `${POD_ALIAS_PREFIX}${attachmentId('net', containerId, 'eth0')}`

for (const form of FORMS) {
  for (const command of ['ADD', 'CHECK'])
    test(`${form}: CNI-100 CNI-158 ${command} without a daemon is 11, without waiting`, async () => {
      const { target } = place(form)
      const stdin = JSON.stringify({ ...JSON.parse(config), prevResult: {} })
      const outcome = await target.run({ env: { CNI_COMMAND: command }, stdin })
      assert.is(outcome.status, 1)
      const { code, cniVersion, msg } = JSON.parse(outcome.stdout)
      assert.equal([code, cniVersion], [11, '1.1.0'])
      assert.match(msg, /twilld is not running/)
      assert.ok(outcome.milliseconds < 5000, 'the ten seconds of silence are not waited for')
    })

  test(`${form}: CNI-027 a bad request is refused by its own code without a daemon too`, async () => {
    const { target, spool } = place(form)
    const outcome = await target.run({ env: { CNI_COMMAND: 'DEL' }, stdin: '{' })
    assert.is(JSON.parse(outcome.stdout).code, 6)
    assert.throws(() => readdirSync(spool), /ENOENT/)
  })

  test(`${form}: CNI-180 CNI-168 VERSION and GC answer without a daemon`, async () => {
    const { target, spool } = place(form)
    const version = await target.run({ env: { CNI_COMMAND: 'VERSION' }, stdin: config })
    assert.is(version.status, 0)
    assert.is(JSON.parse(version.stdout).cniVersion, '1.1.0')
    const gc = await target.run({ env: { CNI_COMMAND: 'GC' }, stdin: config })
    assert.equal([gc.status, gc.stdout], [0, ''])
    assert.throws(() => readdirSync(spool), /ENOENT/)
  })

  test(`${form}: CNI-161 CNI-164 GC with a list is filed, without one nothing is`, async () => {
    const { target, spool } = place(form)
    const stdin = JSON.stringify({ ...JSON.parse(config), 'cni.dev/valid-attachments': [] })
    const outcome = await target.run({ env: { CNI_COMMAND: 'GC' }, stdin })
    assert.equal([outcome.status, outcome.stdout, outcome.stderr], [0, '', ''])
    const [entry] = entries(spool)
    assert.is(entry?.request.environment.get('CNI_COMMAND'), 'GC')
    assert.is(Buffer.from(entry?.request.stdin ?? []).toString(), stdin)
  })

  test(`${form}: CNI-171 STATUS is 0 for 30 s after the daemon was last alive, then 50`, async () => {
    const { target, folder } = place(form)
    const status = () => target.run({ env: { CNI_COMMAND: 'STATUS' }, stdin: config })
    const never = await status()
    assert.is(JSON.parse(never.stdout).code, 50)
    const alive = join(folder, 'alive')
    writeFileSync(alive, '')
    const fresh = await status()
    assert.equal([fresh.status, fresh.stdout], [0, ''])
    const old = Date.now() / 1000 - 31
    utimesSync(alive, old, old)
    const late = await status()
    assert.equal([late.status, JSON.parse(late.stdout).code], [1, 50])
  })

  test(`${form}: CNI-130 CNI-135 DEL removes the pod's interface and files the release`, async () => {
    const { target, spool } = place(form)
    const host = `twl${process.pid}a`
    makePair(host, aliasOf('c1'), 'eth0')
    const before = systemClock.boottimeMs()
    const outcome = await target.run({ env: { CNI_COMMAND: 'DEL', CNI_ARGS: 'A=ü' }, stdin: config })
    assert.equal([outcome.status, outcome.stdout, outcome.stderr], [0, '', ''])
    assert.not(hasLink(node, host))
    assert.not(hasLink(pod, 'eth0'))
    const [entry, ...more] = entries(spool) as [SpooledDel]
    assert.is(more.length, 0)
    const bootId = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()
    assert.match(entry.boot, new RegExp(`^${bootId}:[1-9]\\d*$`))
    assert.ok(
      before <= entry.boottimeMs && entry.boottimeMs <= systemClock.boottimeMs(),
      "the daemon's clock",
    )
    const request = parseRequest(entry.request, { ownNetns: null, stdinFailure: null })
    assert.is(request.command, 'DEL')
    if (request.command === 'DEL')
      assert.equal([request.network, request.containerId, request.ifName], ['net', 'c1', 'eth0'])
    assert.is(entry.request.environment.get('CNI_ARGS'), 'A=ü')
  })

  test(`${form}: CNI-137 DEL without a daemon leaves every link that is not this attachment's`, async () => {
    const { target } = place(form)
    const names = ['b', 'c', 'd'].map(letter => `twl${process.pid}${letter}`) as [string, string, string]
    const foreign = `x${process.pid}`
    // The namespace's path now leads to another container's pod.
    makePair(names[0], aliasOf('c2'), 'eth0')
    makePair(names[1], `${aliasOf('c1')}0`, 'eth1')
    makePair(names[2], POD_ALIAS_PREFIX, 'eth2')
    makePair(foreign, aliasOf('c1'), 'eth3')
    try {
      const outcome = await target.run({ env: { CNI_COMMAND: 'DEL' }, stdin: config })
      assert.is(outcome.status, 0)
      for (const name of [...names, foreign]) assert.ok(hasLink(node, name), name)
      assert.ok(hasLink(pod, 'eth0'))
    } finally {
      for (const name of [...names, foreign]) ip('-n', node, 'link', 'delete', name)
    }
  })

  test(`${form}: CNI-131 CNI-132 DEL repeated, and with its namespace gone, succeeds without a daemon`, async () => {
    const { target, spool } = place(form)
    for (const CNI_NETNS of ['', '/run/netns/twe-no-such', env.CNI_NETNS, env.CNI_NETNS]) {
      const outcome = await target.run({ env: { CNI_COMMAND: 'DEL', CNI_NETNS }, stdin: config })
      assert.equal([outcome.status, outcome.stdout], [0, ''])
    }
    assert.is(entries(spool).length, 4)
  })

  test(`${form}: CNI-134 a spool that cannot be written is 11`, async () => {
    const { target, folder } = place(form)
    writeFileSync(join(folder, 'file'), '')
    const TWILL_SPOOL = join(folder, 'file', 'spool')
    const outcome = await target.run({ env: { CNI_COMMAND: 'DEL', TWILL_SPOOL }, stdin: config })
    assert.is(outcome.status, 1)
    const { code, details } = JSON.parse(outcome.stdout)
    assert.is(code, 11)
    assert.match(details, /spool/)
  })

  for (const manner of ['hang-up', 'truncate', 'junk', 'long-status'] as const satisfies Manner[])
    test(`${form}: CNI-100 a daemon that answers with ${manner} is away`, async () => {
      const { target, socket, spool } = place(form)
      const daemon = await startStubDaemon(socket, manner)
      try {
        const add = await target.run({ env: { CNI_COMMAND: 'ADD' }, stdin: config })
        assert.equal([add.status, JSON.parse(add.stdout).code], [1, 11])
        const del = await target.run({ env: { CNI_COMMAND: 'DEL' }, stdin: config })
        assert.equal([del.status, del.stdout], [0, ''])
        // What a broken answer said is not believed, so the release stays filed.
        assert.is(entries(spool).length, 1)
      } finally {
        await daemon.close()
      }
    })

  test(`${form}: CNI-100 a daemon that is silent for 10 s is away`, async () => {
    const { target, socket, spool } = place(form)
    const deaf = place(form)
    const daemons = [await startStubDaemon(socket, 'silent'), await startStubDaemon(deaf.socket, 'deaf')]
    const large = JSON.stringify({ ...JSON.parse(config), filler: 'x'.repeat(1024 * 1024) })
    try {
      const [add, del, unread] = await Promise.all([
        target.run({ env: { CNI_COMMAND: 'ADD' }, stdin: config }),
        target.run({ env: { CNI_COMMAND: 'DEL' }, stdin: config }),
        deaf.target.run({ env: { CNI_COMMAND: 'ADD' }, stdin: large }),
      ])
      assert.match(JSON.parse(add.stdout).msg, /twilld does not answer/)
      assert.is(JSON.parse(add.stdout).code, 11)
      assert.is(JSON.parse(unread.stdout).code, 11)
      assert.equal([del.status, del.stdout], [0, ''])
      assert.is(entries(spool).length, 1)
    } finally {
      await Promise.all(daemons.map(daemon => daemon.close()))
    }
  })

  test(`${form}: CNI-009 the daemon sees it when its client is killed in mid-call`, async () => {
    const { socket } = place(form)
    const daemon = await startStubDaemon(socket, 'silent')
    try {
      const client = start([join(built.bin, form)], {
        env: { ...env, CNI_COMMAND: 'ADD', TWILL_CNI_SOCKET: socket },
        stdin: config,
      })
      client.stdin.end(config)
      await until(() => daemon.requests.length === 1)
      assert.is(daemon.deserted(), 0)
      client.kill('SIGKILL')
      await until(() => daemon.deserted() === 1)
    } finally {
      await daemon.close()
    }
  })

  test(`${form}: nothing of the working directory is read: .env, bunfig.toml, package.json`, async () => {
    const { target, folder } = place(form)
    const trap = join(folder, 'sprung')
    writeFileSync(join(folder, '.env'), 'CNI_COMMAND=VERSION\nCNI_IFNAME=fromenv\n')
    writeFileSync(join(folder, 'bunfig.toml'), 'preload = ["./trap.js"]\n')
    writeFileSync(join(folder, 'trap.js'), `require('fs').writeFileSync(${JSON.stringify(trap)}, '')\n`)
    writeFileSync(join(folder, 'package.json'), '{"imports": {"#x": "./trap.js"}, "main": "./trap.js"}')
    const outcome = await target.run({
      env: { CNI_COMMAND: undefined, CNI_IFNAME: undefined },
      stdin: '',
      cwd: folder,
    })
    assert.equal([outcome.status, outcome.stdout], [0, ''])
    const del = await target.run({
      env: { CNI_COMMAND: 'ADD', CNI_IFNAME: undefined },
      stdin: config,
      cwd: folder,
    })
    assert.match(JSON.parse(del.stdout).msg, /CNI_IFNAME/)
    assert.not(readdirSync(folder).includes('sprung'))
  })
}

for (const [manner, left] of [
  ['answer', 0],
  ['refuse', 1],
] as const)
  test(`twill-offline: CNI-135 DEL that a daemon takes at the second try (${manner}) leaves ${left} in the spool`, async () => {
    const { target, socket, spool } = place('twill-offline')
    const daemon = await startStubDaemon(socket, manner)
    try {
      const outcome = await target.run({
        env: { CNI_COMMAND: 'DEL', TWILL_CONDUIT: 'away' },
        stdin: config,
      })
      assert.equal([outcome.status, outcome.stdout], [0, ''])
      assert.is(daemon.requests.length, 1)
      assert.is(entries(spool).length, left)
    } finally {
      await daemon.close()
    }
  })

test('twill: a working directory that was deleted does no harm', async () => {
  const { folder } = place('twill')
  const script = `mkdir ${folder}/gone && cd ${folder}/gone && rmdir ${folder}/gone && exec "$0" "$@"`
  const env = { CNI_COMMAND: 'VERSION', TWILL_CNI_SOCKET: join(folder, 'cni.sock') }
  const wrapped = localTarget(join(built.bin, 'twill'), env, ['/bin/sh', '-c', script])
  const outcome = await wrapped.run({ env: {}, stdin: config })
  assert.equal([outcome.status, JSON.parse(outcome.stdout).cniVersion], [0, '1.1.0'], outcome.stderr)
})

test('twill: without /proc and without a daemon it is a CNI error and no crash', async () => {
  const env = { CNI_COMMAND: 'VERSION', TWILL_CNI_SOCKET: join(built.folder, 'none.sock') }
  const hidden = ['unshare', '--mount', '/bin/sh', '-c', 'umount -l /proc && exec "$0" "$@"']
  const outcome = await localTarget(join(built.bin, 'twill'), env, hidden).run({ env: {}, stdin: config })
  assert.equal([outcome.status, JSON.parse(outcome.stdout).code, outcome.stderr], [1, 11, ''])
})

test('without a C compiler twill-offline is installed as twill', async () => {
  const bin = join(built.folder, 'no-compiler')
  const done = spawnSync(join(import.meta.dirname, '..', '..', 'hack', 'build-cni'), [bin], {
    encoding: 'utf8',
    env: { ...process.env, CC: '/no/such/compiler' },
  })
  assert.is(done.status, 0, done.stderr)
  assert.match(done.stderr, /no C compiler/)
  const env = { CNI_COMMAND: 'VERSION', TWILL_CNI_SOCKET: join(built.folder, 'none.sock') }
  rmSync(join(bin, 'twill-offline'))
  const outcome = await localTarget(join(bin, 'twill'), env).run({ env: {}, stdin: config })
  assert.is(outcome.status, 0, outcome.stderr)
  assert.is(JSON.parse(outcome.stdout).cniVersion, '1.1.0')
})

async function until(condition: () => boolean): Promise<void> {
  const deadline = Date.now() + 30_000
  while (!condition()) {
    assert.ok(Date.now() < deadline, 'waited 30 s')
    await new Promise(resolve => setTimeout(resolve, 5))
  }
}

test.run()
