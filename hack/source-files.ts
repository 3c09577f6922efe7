/** Lists the TypeScript files of the source tree, for the checkers of this folder. */
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'

/** @returns paths from the working directory, sorted; a folder that does not exist yet holds none. */
export function sourceFiles(folders: string[]): string[] {
  return folders
    .filter(folder => existsSync(folder))
    .flatMap(folder =>
      readdirSync(folder, { recursive: true, encoding: 'utf8' }).map(name => join(folder, name)),
    )
    .filter(name => name.endsWith('.ts') && !name.endsWith('.d.ts'))
    .sort()
}
