/** Executables on their way to the runtime's folder: whole or not at all, with one mode, also while they run. */
import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import {
  chmodSync,
  chownSync,
  copyFileSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { EXECUTABLES, ExecutableFiles, removeExecutables } from '../../../../daemon/cni/executables.ts'
import { FAULT_POINTS } from '../../../../lib/fault.ts'

interface Place {
  readonly root: string
  readonly source: string
  readonly folder: string
}

const test = suite<Place>('executables')

test.before.each(place => {
  const root = mkdtempSync(join(tmpdir(), 'twse-'))
  Object.assign(place, { root, source: join(root, 'built'), folder: join(root, 'opt/cni/bin') })
  mkdirSync(place.source)
  // More than a chunk, so that reads and writes come in several.
  writeFileSync(join(place.source, 'twill-offline'), Buffer.alloc(2_500_000, 'offline '))
  for (const name of ['twill', 'twill-ipam']) writeFileSync(join(place.source, name), `${name} 1`)
})
test.after.each(({ root }) => rmSync(root, { recursive: true }))

/** The same length, and another last byte. */
function changeLast(path: string): void {
  const bytes = readFileSync(path)
  bytes[bytes.length - 1] = 0
  writeFileSync(path, bytes)
}

const installed = ({ source, folder }: Place) => new ExecutableFiles({ source, folder })
const all = [...EXECUTABLES]

function assertInstalled({ source, folder }: Place): void {
  assert.equal(readdirSync(folder).sort(), [...all].sort())
  for (const name of all) {
    const { mode, uid, gid } = lstatSync(join(folder, name))
    assert.equal([mode & 0o7777, uid, gid, lstatSync(join(folder, name)).isFile()], [0o755, 0, 0, true], name)
    assert.ok(readFileSync(join(folder, name)).equals(readFileSync(join(source, name))), name)
  }
}

test('they come with mode 0755 whatever the source has, and once', async place => {
  chmodSync(join(place.source, 'twill'), 0o6700)
  const before = process.umask(0o077)
  try {
    assert.equal(await installed(place).install(), all)
  } finally {
    process.umask(before)
  }
  assertInstalled(place)
  const inodes = () => all.map(name => lstatSync(join(place.folder, name)).ino)
  const first = inodes()
  assert.equal(await installed(place).install(), [], 'a daemon that starts again')
  assert.equal(inodes(), first)
})

test('what differs is replaced: content, mode, owner, a link; and nothing else', async place => {
  const files = installed(place)
  await files.install()
  const at = (name: string) => join(place.folder, name)
  const damage: [string, () => void][] = [
    ['twill-offline', () => changeLast(at('twill-offline'))],
    ['twill', () => writeFileSync(at('twill'), 'short')],
    ['twill', () => chmodSync(at('twill'), 0o4755)],
    ['twill-ipam', () => chownSync(at('twill-ipam'), 65534, 0)],
    ['twill-ipam', () => rmSync(at('twill-ipam'))],
    [
      'twill',
      () => {
        rmSync(at('twill'))
        symlinkSync(join(place.source, 'twill'), at('twill'))
      },
    ],
  ]
  for (const [name, make] of damage) {
    make()
    assert.equal(await files.install(), [name])
    assertInstalled(place)
  }
  writeFileSync(join(place.source, 'twill'), 'twill 2')
  assert.equal(await files.install(), ['twill'])
  assertInstalled(place)
})

test('a file of one build under two names is one file', async place => {
  rmSync(join(place.source, 'twill'))
  linkSync(join(place.source, 'twill-offline'), join(place.source, 'twill'))
  await installed(place).install()
  assertInstalled(place)
  const inode = (name: string) => lstatSync(join(place.folder, name)).ino
  assert.is(inode('twill'), inode('twill-offline'))
})

test('a running one is replaced, and runs on', async place => {
  mkdirSync(place.folder, { recursive: true })
  copyFileSync('/bin/sleep', join(place.folder, 'twill'))
  const running = spawn(join(place.folder, 'twill'), ['60'])
  const ended = once(running, 'exit')
  try {
    await installed(place).install()
    assertInstalled(place)
    assert.is(running.exitCode, null)
  } finally {
    running.kill('SIGKILL')
    await ended
  }
})

test('what cannot be put there leaves nothing behind: a full disk, a folder in the way, a source that is gone', async place => {
  mkdirSync(place.folder, { recursive: true })
  const refusal = (files = installed(place)) =>
    files.install().then(
      put => `installed ${put}`,
      error => String(error.code),
    )
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', place.folder])
  try {
    assert.is(await refusal(), 'ENOSPC')
    assert.equal(readdirSync(place.folder), [])
    // Known before anything is written: the last of the disk is somebody else's.
    const said = await installed(place).install().catch(String)
    assert.match(String(said), /takes 2500000 bytes, and 10\d+ are free there/)
  } finally {
    execFileSync('umount', [place.folder])
  }
  mkdirSync(join(place.folder, 'twill', 'in the way'), { recursive: true })
  assert.match(await refusal(), /EISDIR|ENOTEMPTY/)
  assert.equal(readdirSync(place.folder).sort(), ['twill', 'twill-offline'])
  rmSync(join(place.folder, 'twill'), { recursive: true })
  rmSync(join(place.source, 'twill-ipam'))
  assert.is(await refusal(), 'ENOENT')
  assert.equal(readdirSync(place.folder).sort(), ['twill', 'twill-offline'])
})

for (const point of FAULT_POINTS.install)
  test(`killed at ${point}: nothing half is found, and the next install makes it whole`, async place => {
    const module = join(import.meta.dirname, '../../../../daemon/cni/executables.ts')
    const script = `import { ExecutableFiles } from ${JSON.stringify(module)}
      await new ExecutableFiles(${JSON.stringify(place)}).install()`
    const child = spawnSync(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', script], {
      env: { ...process.env, TWILL_FAULT: `${point}:2` },
      encoding: 'utf8',
    })
    assert.is(child.signal, 'SIGKILL', child.stderr)
    const found = readdirSync(place.folder).filter(name => !name.startsWith('.'))
    for (const name of found)
      assert.ok(readFileSync(join(place.folder, name)).equals(readFileSync(join(place.source, name))), name)
    await installed(place).install()
    assertInstalled(place)
  })

test('they are taken away with what a killed installation left, and nothing else', async place => {
  await installed(place).install()
  writeFileSync(join(place.folder, 'bridge'), 'of others')
  writeFileSync(join(place.folder, '.twill.new'), 'half')
  const gone = await removeExecutables(place.folder)
  assert.equal([...gone].sort(), [...all, '.twill.new'].map(name => join(place.folder, name)).sort())
  assert.equal(readdirSync(place.folder), ['bridge'])
  assert.equal(await removeExecutables(place.folder), [])
  assert.equal(await removeExecutables(join(place.root, 'none')), [])
})

test.run()
