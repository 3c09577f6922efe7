/**
 * The plugins behind ours in the network configuration: which of those wanted are there, and what they speak. All of a
 * list is called at one version, so one plugin of an older age decides for all. A plugin that is not there, or that cannot be asked, is not
 * chained: a runtime would fail every pod for it.
 */
import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { messageOf } from '../../lib/errors.ts'

/** Plugins that may be chained, and the capability by which each learns what a pod asks for. */
export const CHAINABLE = { portmap: 'portMappings', bandwidth: 'bandwidth' } as const
export type Chainable = keyof typeof CHAINABLE

/** What a pod asks for in vain without it. */
const SERVES: Readonly<Record<Chainable, string>> = {
  portmap: 'a hostPort',
  bandwidth: 'a bandwidth',
}

/** Where runtimes look, unless they are told otherwise. */
export const KNOWN_FOLDERS: readonly string[] = ['/opt/cni/bin', '/usr/lib/cni', '/usr/libexec/cni']

export interface ChainedPlugin {
  readonly name: Chainable
  /** Of the CNI specification. */
  readonly versions: readonly string[]
}

export interface Chain {
  readonly plugins: readonly ChainedPlugin[]
  /** Of those wanted, a sentence for each that is not chained. */
  readonly problems: readonly string[]
}

export interface ChainModules {
  /** @throws with the reason */
  readonly versionsOf: (path: string) => Promise<readonly string[]>
}

/** Remembers what a file answered for as long as it is the same file. */
export class ChainSurvey {
  readonly #modules: ChainModules
  readonly #answers = new Map<string, { readonly sign: string; readonly versions: readonly string[] }>()

  constructor(modules: ChainModules) {
    this.#modules = modules
  }

  /**
   * @param folder null: nobody knows where the runtime looks
   * @param spoken by ours; each plugin leaves of these what it speaks too, and one that would leave none is not chained
   */
  async look(folder: string | null, wanted: readonly Chainable[], spoken: readonly string[]): Promise<Chain> {
    const plugins: ChainedPlugin[] = []
    const problems: string[] = []
    let common = spoken
    for (const name of wanted) {
      try {
        const plugin = { name, versions: await this.#ask(folder, name) }
        const left = common.filter(version => plugin.versions.includes(version))
        if (left.length === 0)
          throw new Error(`${folder}/${name} speaks none of the CNI versions ${common.join(', ')}`)
        common = left
        plugins.push(plugin)
      } catch (error) {
        problems.push(`${messageOf(error)}: pods that ask for ${SERVES[name]} are refused`)
      }
    }
    return { plugins, problems }
  }

  #ask(folder: string | null, name: Chainable): Promise<readonly string[]> {
    if (folder !== null) return this.#versions(join(folder, name))
    throw new Error(`${name} is not looked for: twill is in none of ${KNOWN_FOLDERS.join(', ')} (cni.binDir)`)
  }

  async #versions(path: string): Promise<readonly string[]> {
    const sign = await signOf(path)
    const known = this.#answers.get(path)
    if (known?.sign === sign) return known.versions
    this.#answers.delete(path)
    const versions = await this.#modules.versionsOf(path)
    this.#answers.set(path, { sign, versions })
    return versions
  }
}

/** @throws Error that there is none */
async function signOf(path: string): Promise<string> {
  const found = await stat(path, { bigint: true }).catch(() => null)
  if (found === null) throw new Error(`${path} is not there`)
  return [found.dev, found.ino, found.size, found.mtimeNs, found.ctimeNs].join(':')
}

/** Where the runtime looks: as configured, else where `twill` is. */
export async function pluginFolder(
  binDir: string | null,
  folders: readonly string[] = KNOWN_FOLDERS,
): Promise<string | null> {
  if (binDir !== null) return binDir
  for (const folder of folders) {
    const isThere = await stat(join(folder, 'twill')).then(
      () => true,
      () => false,
    )
    if (isThere) return folder
  }
  return null
}
