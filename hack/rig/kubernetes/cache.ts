/** What is made once for a machine, whoever needs it first. */
import { existsSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { CACHE } from '../../go/tools.ts'

export const IMAGES_FOLDER = join(CACHE, 'images')

/** A folder appears whole. Somebody else may have made it meanwhile: theirs stays. */
export function moveInto(fresh: string, folder: string): void {
  try {
    renameSync(fresh, folder)
  } catch (error) {
    if (!existsSync(folder)) throw error
    rmSync(fresh, { recursive: true })
  }
}
