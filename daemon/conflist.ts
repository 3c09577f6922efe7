/**
 * The network configuration that runtimes read. Its presence is what containerd 1.6 and older know as readiness, so
 * it is written atomically, last, and only when it differs (CNI-264). 1.0.0 for runtimes that know no cniVersions,
 * the others for those that do (CNI-068).
 */
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { ANNOTATIONS_CAPABILITY } from '../cni-bin/annotations.ts'

export function conflistText(network: string): string {
  const document = {
    cniVersion: '1.0.0',
    cniVersions: ['0.3.1', '0.4.0', '1.0.0', '1.1.0'],
    name: network,
    plugins: [
      { type: 'twill', capabilities: { [ANNOTATIONS_CAPABILITY]: true } },
      { type: 'portmap', capabilities: { portMappings: true } },
    ],
  }
  return `${JSON.stringify(document, null, 2)}\n`
}

/** True when the file was written. */
export async function installConflist(path: string, text: string): Promise<boolean> {
  const present = await readFile(path, 'utf8').catch(() => null)
  if (present === text) return false
  await mkdir(dirname(path), { recursive: true })
  const temporary = `${path}.new`
  await writeFile(temporary, text, { mode: 0o644 })
  await rename(temporary, path)
  return true
}
