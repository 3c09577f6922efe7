/** What the container image holds, without building it: what the daemon opens is in it, and no shell is. */
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { fingerprint } from '../../hack/image/contents.ts'
import { debianLicences, npmLicences } from '../../hack/image/licences.ts'
import { twillImage } from '../../hack/image/twill.ts'
import { ROOT } from '../../hack/rig/layout.ts'
import { programOf } from '../../kernel/iptables/program.ts'

const test = suite('image')

const image = twillImage(ROOT)
const [contents = {}] = image.layers
const paths = Object.keys(contents)

test('there is no shell, and nothing that would be one by another name', () => {
  const found = paths.filter(path => /(^|\/)(ba|da|z|k|a)?sh$|busybox|\/env$/.test(path))
  assert.equal(found, [])
})

test('what the daemon opens by its name at run time is in it', () => {
  for (const family of [4, 6] as const)
    for (const variant of ['legacy', 'nft'] as const)
      for (const verb of ['', '-restore'])
        assert.ok(contents[`/usr/sbin/${programOf(family, variant)}${verb}`], `${family} ${variant} ${verb}`)
  assert.ok(paths.some(path => path.endsWith('/libnftables.so.1')))
  assert.ok(paths.some(path => path.endsWith('/xtables/libxt_comment.so')))
  assert.ok(contents['/usr/sbin/nft'])
  assert.ok(contents['/etc/protocols'])
})

test('links lead to something that is in it', () => {
  for (const [path, entry] of Object.entries(contents))
    if ('link' in entry) assert.ok(contents[join(path, '..', entry.link)] ?? contents[entry.link], path)
})

test('nothing in it is setuid, and every file is there', () => {
  for (const [path, entry] of Object.entries(contents)) {
    assert.is((('mode' in entry ? entry.mode : undefined) ?? 0) & 0o7000, 0, path)
    if ('file' in entry) assert.ok(existsSync(entry.file), entry.file)
  }
})

test('the same inputs are the same image', () => {
  assert.is(fingerprint(contents), fingerprint(twillImage(ROOT).layers[0] ?? {}))
})

test('the entry point is Node with the flags of the launcher', () => {
  const launcher = readFileSync(join(ROOT, 'dist/bin/twilld'), 'utf8')
  const [node, ...rest] = image.config.Entrypoint ?? []
  assert.ok(contents[node as string])
  assert.ok(contents[rest.at(-1) as string])
  assert.ok(launcher.includes(rest.slice(0, -1).join(' ')), launcher)
  for (const variable of launcher.match(/^export (.*)$/m)?.[1]?.split(' ') ?? [])
    assert.ok(image.config.Env?.includes(variable), variable)
})

test('every package in it brings its licence, and one without any is refused', () => {
  for (const name of ['libc6', 'nftables', 'iptables', 'libnftables1', 'twill'])
    assert.ok(contents[`/usr/share/doc/${name}/copyright`], name)
  for (const name of ['pino/LICENSE', 'koffi/LICENSE.txt', 'etcd3/LICENSE', '@grpc/grpc-js/LICENSE'])
    assert.ok(contents[`/usr/share/doc/twill/npm/${name}`], name)
  assert.throws(() => debianLicences(['/etc/hostname']), /\/etc\/hostname is of no Debian package/)
  const root = mkdtempSync(join(tmpdir(), 'twsl-'))
  try {
    mkdirSync(join(root, 'node_modules/bare'), { recursive: true })
    writeFileSync(join(root, 'node_modules/bare/index.js'), '')
    const input = join(root, 'node_modules/bare/index.js')
    assert.throws(() => npmLicences([input], '/x'), /node_modules\/bare: a package without a licence/)
  } finally {
    rmSync(root, { recursive: true })
  }
})

test.run()
