/** The container image of Twill as this checkout has it built, for nodes to import. */
import { createHash } from 'node:crypto'
import { existsSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { writeArchive } from '../../image/archive.ts'
import { fingerprint } from '../../image/contents.ts'
import { twillImage } from '../../image/twill.ts'
import { ROOT } from '../layout.ts'

const FOLDER = join(ROOT, 'dist/image')
const PREFIX = 'rig-'

/**
 * An archive whose name says what is in it, made where it is missing; those before it go.
 * @throws Error: dist is not built
 */
export function twillArchive(): string {
  const image = twillImage(ROOT)
  const parts = JSON.stringify([image.tags, image.config, image.layers.map(fingerprint)])
  const name = `${PREFIX}${createHash('sha256').update(parts).digest('hex').slice(0, 16)}.tar`
  const archive = join(FOLDER, name)
  if (existsSync(archive)) return archive
  writeArchive(archive, [image])
  for (const old of readdirSync(FOLDER).filter(each => each.startsWith(PREFIX) && each !== name))
    rmSync(join(FOLDER, old), { force: true })
  return archive
}
