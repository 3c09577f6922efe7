/** Contents of an image's layer as values: what their fingerprint tells apart, and programs with their libraries. */
import { chmodSync, existsSync, mkdtempSync, readlinkSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { type Contents, fingerprint, layOut } from '../../../../hack/image/contents.ts'
import { librariesOf, programs } from '../../../../hack/image/programs.ts'

const test = suite<{ folder: string }>('image contents')
test.before.each(context => {
  context.folder = mkdtempSync(join(tmpdir(), 'twic-'))
})
test.after.each(context => rmSync(context.folder, { recursive: true, force: true }))

test('the fingerprint tells paths, bytes, modes, links and folders apart, and not the order', ({
  folder,
}) => {
  const file = join(folder, 'file')
  writeFileSync(file, 'one')
  chmodSync(file, 0o644)
  const first = fingerprint({ '/a': { file }, '/b': { text: 'b' } })
  assert.is(fingerprint({ '/b': { text: 'b' }, '/a': { file } }), first)
  const others: Contents[] = [
    { '/a': { file }, '/c': { text: 'b' } },
    { '/a': { file }, '/b': { text: 'c' } },
    { '/a': { file }, '/b': { link: 'b' } },
    { '/a': { file }, '/b': { folder: true } },
    { '/a': { file, mode: 0o755 }, '/b': { text: 'b' } },
    { '/a': { file } },
  ]
  const prints = new Set([first, ...others.map(fingerprint)])
  assert.is(prints.size, 1 + others.length)
  writeFileSync(file, 'two')
  assert.not(prints.has(fingerprint({ '/a': { file }, '/b': { text: 'b' } })))
})

test('what is laid out has the modes asked for, whatever the umask', ({ folder }) => {
  const before = process.umask(0o077)
  try {
    layOut({ '/x/y': { text: 'y' }, '/x/run': { text: '', mode: 0o755 }, '/x/l': { link: 'y' } }, folder)
  } finally {
    process.umask(before)
  }
  assert.is(statSync(join(folder, 'x')).mode & 0o777, 0o755)
  assert.is(statSync(join(folder, 'x/y')).mode & 0o777, 0o644)
  assert.is(statSync(join(folder, 'x/run')).mode & 0o777, 0o755)
  assert.is(readlinkSync(join(folder, 'x/l')), 'y')
})

test('a program comes with its loader and its libraries, where the loader looks for them', () => {
  const contents = programs(['tar'], '/usr/bin')
  assert.ok('/usr/bin/tar' in contents)
  const libraries = Object.keys(contents).filter(path => path !== '/usr/bin/tar')
  assert.ok(libraries.some(path => /libc\.so/.test(path)))
  assert.ok(libraries.some(path => /\/ld-linux/.test(path)))
  for (const path of libraries) assert.ok(existsSync(path), path)
})

test('a static program needs no library, and a program that is not there is named', () => {
  assert.equal(librariesOf('/bin/busybox'), {})
  assert.throws(() => programs(['no-such-program'], '/bin'), /no-such-program is not on this machine/)
})

test.run()
