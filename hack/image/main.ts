/** Writes the container image of Twill to dist/image and says what it is. */
import { createHash } from 'node:crypto'
import { readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { VERSION } from '../../lib/version.ts'
import { writeArchive } from './archive.ts'
import { TWILL_IMAGE, twillImage } from './twill.ts'

const root = join(import.meta.dirname, '../..')
const archive = join(root, `dist/image/twill-${VERSION}.tar`)
writeArchive(archive, [twillImage(root)])
const digest = createHash('sha256').update(readFileSync(archive)).digest('hex')
const megabytes = (statSync(archive).size / 1e6).toFixed(0)
console.log(`${archive.slice(root.length + 1)}: ${TWILL_IMAGE}, ${megabytes} MB, sha256 ${digest}`)
