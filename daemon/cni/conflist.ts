/**
 * The network configuration that runtimes read. Its presence is what containerd 1.6 and older know as readiness, so
 * it is written atomically, last, and only when it differs (CNI-264). At most 1.0.0 for runtimes that know no
 * cniVersions, the others for those that do (CNI-068), and none that a plugin of the chain does not speak.
 *
 * A capability goes to the plugin that serves it. One that nobody in the chain serves is declared by twill, which then
 * refuses pods that ask for it: runtimes drop what no plugin declares, and a pod would lack its hostPort in silence.
 */
import { lstat, mkdir, readFile, rename, unlink, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { ANNOTATIONS_CAPABILITY } from '../../cni-bin/annotations.ts'
import { SUPPORTED_VERSIONS } from '../../cni-bin/version.ts'
import { CHAINABLE, type ChainedPlugin } from './chain.ts'

/** Versions with lists and with `cniVersion` in results; 0.3.0 has nothing that 0.3.1 has not. */
export const OFFERED_VERSIONS: readonly string[] = SUPPORTED_VERSIONS.filter(version => version !== '0.3.0')
const SINCE_CNI_VERSIONS = '1.1.0'

export function conflistText(network: string, chain: readonly ChainedPlugin[]): string {
  const spoken = OFFERED_VERSIONS.filter(version => chain.every(({ versions }) => versions.includes(version)))
  const chained: readonly string[] = chain.map(({ name }) => CHAINABLE[name])
  const unserved = Object.values(CHAINABLE).filter(capability => !chained.includes(capability))
  const document = {
    cniVersion: spoken.findLast(version => version !== SINCE_CNI_VERSIONS) ?? SINCE_CNI_VERSIONS,
    cniVersions: spoken,
    name: network,
    plugins: [
      { type: 'twill', capabilities: declared([ANNOTATIONS_CAPABILITY, ...unserved]) },
      ...chain.map(({ name }) => ({ type: name, capabilities: declared([CHAINABLE[name]]) })),
    ],
  }
  return `${JSON.stringify(document, null, 2)}\n`
}

const declared = (capabilities: readonly string[]) =>
  Object.fromEntries(capabilities.map(capability => [capability, true]))

/**
 * True when the file was written. A link there, or under the name of the temporary file, is replaced and never written
 * through: it leads wherever somebody wishes, and in a container elsewhere than on the node.
 */
export async function installConflist(path: string, text: string): Promise<boolean> {
  if (await isInstalled(path, text)) return false
  await mkdir(dirname(path), { recursive: true })
  const temporary = `${path}.new`
  // Of an earlier attempt that was killed.
  await unlink(temporary).catch(() => undefined)
  try {
    await writeFile(temporary, text, { mode: 0o644, flag: 'wx', flush: true })
    await rename(temporary, path)
  } catch (error) {
    await unlink(temporary).catch(() => undefined)
    throw error
  }
  return true
}

async function isInstalled(path: string, text: string): Promise<boolean> {
  const found = await lstat(path).catch(() => null)
  return found?.isFile() === true && (await readFile(path, 'utf8').catch(() => null)) === text
}
