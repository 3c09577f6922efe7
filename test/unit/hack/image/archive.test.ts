/** Images made by hand: the archive's layout, layers shared, the same bytes from the same contents. */
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { type Image, writeArchive } from '../../../../hack/image/archive.ts'
import type { Contents } from '../../../../hack/image/contents.ts'

interface Manifest {
  Config: string
  RepoTags: string[]
  Layers: string[]
}

const test = suite<{ folder: string }>('image archives')
test.before.each(context => {
  context.folder = mkdtempSync(join(tmpdir(), 'twia-'))
})
test.after.each(context => rmSync(context.folder, { recursive: true, force: true }))

const BASE: Contents = {
  '/bin/tool': { text: '#!/bin/sh\n', mode: 0o755 },
  '/bin/sh': { link: 'tool' },
  '/tmp': { folder: true, mode: 0o1777 },
}
const IMAGES: Image[] = [
  { tags: ['localhost/a:1'], layers: [BASE], config: { Cmd: ['/bin/tool'] } },
  { tags: ['localhost/b:1', 'localhost/c:1'], layers: [BASE, { '/b': { text: 'b' } }], config: {} },
]

const read = (archive: string, file: string): Buffer => execFileSync('tar', ['-xOf', archive, `./${file}`])
const manifestOf = (archive: string) => JSON.parse(read(archive, 'manifest.json').toString()) as Manifest[]

test('each image has its tags, its configuration and its layers, each layer under its digest', ({
  folder,
}) => {
  const archive = join(folder, 'images.tar')
  writeArchive(archive, IMAGES)
  const manifest = manifestOf(archive)
  assert.equal(
    manifest.map(image => image.RepoTags),
    [['localhost/a:1'], ['localhost/b:1', 'localhost/c:1']],
  )
  const config = JSON.parse(read(archive, manifest[1]!.Config).toString())
  const digests = manifest[1]!.Layers.map(layer =>
    createHash('sha256').update(read(archive, layer)).digest('hex'),
  )
  assert.equal(
    config.rootfs.diff_ids,
    digests.map(digest => `sha256:${digest}`),
  )
  assert.equal(JSON.parse(read(archive, manifest[0]!.Config).toString()).config, { Cmd: ['/bin/tool'] })
})

test('a layer that two images share is in the archive once', ({ folder }) => {
  const archive = join(folder, 'images.tar')
  writeArchive(archive, IMAGES)
  const [a, b] = manifestOf(archive)
  assert.is(a!.Layers[0], b!.Layers[0])
  const names = execFileSync('tar', ['-tf', archive], { encoding: 'utf8' }).match(/\.tar$/gm)
  assert.is(names?.length, 2)
})

test('modes, links and owners are in the layer', ({ folder }) => {
  const archive = join(folder, 'images.tar')
  writeArchive(archive, IMAGES)
  writeFileSync(join(folder, 'layer.tar'), read(archive, manifestOf(archive)[0]!.Layers[0]!))
  const listing = execFileSync('tar', ['-tvf', join(folder, 'layer.tar')], { encoding: 'utf8' })
  assert.match(listing, /^-rwxr-xr-x 0\/0 .* \.\/bin\/tool$/m)
  assert.match(listing, /^lrwxrwxrwx 0\/0 .* \.\/bin\/sh -> tool$/m)
  assert.match(listing, /^drwxrwxrwt 0\/0 .* \.\/tmp\/$/m)
})

test('the same contents make the same bytes, whenever the files were written', ({ folder }) => {
  const source = join(folder, 'source')
  const make = (archive: string, time: number): Buffer => {
    writeFileSync(source, 'the same')
    utimesSync(source, time, time)
    writeArchive(archive, [{ tags: ['localhost/d:1'], layers: [{ '/d': { file: source } }], config: {} }])
    return readFileSync(archive)
  }
  assert.ok(make(join(folder, '1.tar'), 1_000).equals(make(join(folder, '2.tar'), 2_000)))
})

test('a file that is not there is an error, and no archive is left', ({ folder }) => {
  const layers = [{ '/e': { file: join(folder, 'absent') } }]
  assert.throws(() => writeArchive(join(folder, 'e.tar'), [{ tags: ['e:1'], layers, config: {} }]), /absent/)
  assert.throws(() => readFileSync(join(folder, 'e.tar')), /ENOENT/)
})

test.run()
