/**
 * Container images as an archive in Docker's layout (manifest.json, a configuration and layers for each image), as
 * `ctr images import` and `podman load` take it. No registry and no Docker are needed.
 *
 * Invariant: the same contents make the same bytes, so that a digest names what is in it.
 */
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { type Contents, layOut } from './contents.ts'

/** Source: OCI image specification, config.md, "config". */
export interface ImageConfig {
  Entrypoint?: readonly string[]
  Cmd?: readonly string[]
  Env?: readonly string[]
  User?: string
  WorkingDir?: string
}

export interface Image {
  tags: readonly string[]
  /** From the bottom up. Images that share the very value share the layer. */
  layers: readonly Contents[]
  config: ImageConfig
}

const ARCHITECTURES: Record<string, string> = { x64: 'amd64', arm64: 'arm64' }

/** Appears at its path whole or not at all. @throws Error: a file of the contents that is not there */
export function writeArchive(archive: string, images: readonly Image[]): void {
  const work = mkdtempSync(join(tmpdir(), 'twsi-'))
  try {
    const layers = writeLayers(work, [...new Set(images.flatMap(image => image.layers))])
    const manifest = images.map(image => describe(work, image, layers))
    writeFileSync(join(work, 'manifest.json'), JSON.stringify(manifest))
    mkdirSync(dirname(archive), { recursive: true })
    tar(`${archive}.${process.pid}`, work)
    renameSync(`${archive}.${process.pid}`, archive)
  } finally {
    rmSync(work, { recursive: true, force: true })
  }
}

/** @returns the digest of each layer, whose file it names */
function writeLayers(work: string, contents: readonly Contents[]): Map<Contents, string> {
  return new Map(
    contents.map(each => {
      const [root, layer] = [join(work, 'root'), join(work, 'layer')]
      mkdirSync(root)
      layOut(each, root)
      tar(layer, root)
      rmSync(root, { recursive: true })
      const digest = createHash('sha256').update(readFileSync(layer)).digest('hex')
      renameSync(layer, join(work, `${digest}.tar`))
      return [each, digest]
    }),
  )
}

/** Writes the image's configuration. @returns its entry in manifest.json */
function describe(work: string, image: Image, layers: ReadonlyMap<Contents, string>) {
  const digests = image.layers.map(layer => layers.get(layer)!)
  const config = JSON.stringify({
    architecture: ARCHITECTURES[process.arch],
    os: 'linux',
    config: image.config,
    rootfs: { type: 'layers', diff_ids: digests.map(digest => `sha256:${digest}`) },
  })
  const file = `${createHash('sha256').update(config).digest('hex')}.json`
  writeFileSync(join(work, file), config)
  return { Config: file, RepoTags: image.tags, Layers: digests.map(digest => `${digest}.tar`) }
}

/** Owned by root, of no time: as an image is, and the same each time. */
export function tar(archive: string, folder: string): void {
  const same = ['--owner=0', '--group=0', '--numeric-owner', '--sort=name', '--mtime=@0', '--format=gnu']
  execFileSync('tar', [...same, '-cf', archive, '-C', folder, '.'])
}
