/**
 * The licences of what is in an image: of Debian's packages their copyright files, of npm's what they bring. Nothing
 * goes into an image without one.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync, realpathSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import type { Contents } from './contents.ts'

/** Debian's packages that these files of the machine are of. @throws Error naming a file that is of none */
export function debianLicences(files: readonly string[]): Contents {
  const owners = ownersOf(files.flatMap(namesOf))
  const packages = files.map(file => {
    const owner = namesOf(file).flatMap(name => owners.get(name) ?? [])[0]
    if (owner === undefined) throw new Error(`${file} is of no Debian package: its licence is not known`)
    return owner
  })
  return Object.fromEntries(
    [...new Set(packages)].map(name => {
      const file = `/usr/share/doc/${name}/copyright`
      if (!existsSync(file)) throw new Error(`${name}: there is no ${file}`)
      return [file, { file }]
    }),
  )
}

/** The same file has two names where /lib is a link to /usr/lib, and dpkg knows one of them. */
function namesOf(file: string): string[] {
  const names = [file, realpathSync(file), join(realpathSync(dirname(file)), basename(file))]
  return [...new Set(names.flatMap(name => [name, name.replace(/^\/usr\//, '/')]))]
}

/** Asked once for all: each look of dpkg reads the lists of every package. */
function ownersOf(names: readonly string[]): Map<string, string> {
  // It fails for the names that it does not know, and tells of the others.
  const { stdout } = spawnSync('dpkg', ['-S', '--', ...names], { encoding: 'utf8' })
  const lines = stdout.split('\n').flatMap(line => {
    const [, owner, name] = /^([^:,]+)[^/]*: (\/.*)$/.exec(line) ?? []
    return owner === undefined || name === undefined ? [] : [[name, owner] as const]
  })
  return new Map(lines)
}

const LICENCE = /^(licen[cs]e|copying|notice)(\.|-|$)/i

/**
 * @param inputs paths of bundled files, from the root of the repository
 * @param folder in the image
 * @throws Error naming a package that has neither a licence nor a README
 */
export function npmLicences(inputs: readonly string[], folder: string): Contents {
  const roots = new Set(inputs.flatMap(packageRootOf))
  return Object.fromEntries(
    [...roots].sort().flatMap(root => {
      const names = readdirSync(root)
      const licences = names.filter(name => LICENCE.test(name))
      // Some say it there alone.
      const told = licences.length > 0 ? licences : names.filter(name => /^readme/i.test(name))
      if (told.length === 0) throw new Error(`${root}: a package without a licence`)
      const title = root.slice(root.indexOf('node_modules/') + 'node_modules/'.length)
      return told.map(name => [join(folder, title, name), { file: join(root, name) }])
    }),
  )
}

/** The innermost package that the file is of; none of our own source. */
function packageRootOf(input: string): string[] {
  const root = /^(.*node_modules\/(?:@[^/]+\/)?[^/]+)\//.exec(input)?.[1]
  return root === undefined ? [] : [root]
}
