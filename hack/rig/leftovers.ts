/** What a rig could leave on the host: processes, its folder, mounts, cgroups, links. Everything else dies in its namespaces. */
import { existsSync, readdirSync, readFileSync, rmdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { rigFolder } from './layout.ts'
import { end, markedProcesses, must, until } from './processes.ts'

const commandOf = (pid: number): string => {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'latin1').replaceAll('\0', ' ').trim().slice(0, 60)
  } catch {
    return ''
  }
}

/** Folders below /run/twill-rig/NAME that are mount points in the host's own mount namespace. */
function mountsOf(folder: string): string[] {
  return readFileSync('/proc/self/mounts', 'utf8')
    .split('\n')
    .map(line => line.split(' ')[1] ?? '')
    .filter(target => target === folder || target.startsWith(`${folder}/`))
}

/** node-init.sh shows a node only cgroups below one of this name. */
export const cgroupOf = (cluster: string): string => `twill-rig-${cluster}`

function cgroupsOf(cluster: string): string[] {
  const root = '/sys/fs/cgroup'
  if (!existsSync(root)) return []
  return ['.', ...readdirSync(root)]
    .map(controller => join(root, controller, cgroupOf(cluster)))
    .filter(folder => existsSync(folder))
}

/** @returns false if one of them is busy */
function removeCgroup(folder: string): boolean {
  const inner = readdirSync(folder, { withFileTypes: true }).filter(entry => entry.isDirectory())
  if (!inner.every(entry => removeCgroup(join(folder, entry.name)))) return false
  try {
    rmdirSync(folder)
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EBUSY') return false
    throw error
  }
}

/** @returns one line for each thing of this cluster that is on the host, whoever left it; empty if nothing is */
export function findLeftovers(cluster: string): string[] {
  const folder = rigFolder(cluster)
  return [
    ...markedProcesses(cluster).map(pid => `process ${pid} (${commandOf(pid)})`),
    ...mountsOf(folder).map(target => `mount ${target}`),
    ...cgroupsOf(cluster).map(path => `cgroup ${path}`),
    ...(existsSync(folder) ? [`folder ${folder}`] : []),
  ]
}

/** @returns what it removed, one line each. Works whatever state the rig is in; needs no record of it. */
export async function removeLeftovers(cluster: string): Promise<string[]> {
  const folder = rigFolder(cluster)
  const removed: string[] = []
  // A process may start another while we look: until none is found.
  for (let pids = markedProcesses(cluster); pids.length > 0; pids = markedProcesses(cluster)) {
    removed.push(...pids.map(pid => `process ${pid} (${commandOf(pid)})`))
    await end(pids)
  }
  for (const target of mountsOf(folder).reverse()) {
    await must('umount', ['-l', target])
    removed.push(`mount ${target}`)
  }
  for (const path of cgroupsOf(cluster)) {
    // A cgroup is busy until the kernel has buried the last of its processes.
    await until(
      () => removeCgroup(path),
      5_000,
      () => `cgroup ${path} is still in use`,
    )
    removed.push(`cgroup ${path}`)
  }
  if (existsSync(folder)) {
    rmSync(folder, { recursive: true, force: true })
    removed.push(`folder ${folder}`)
  }
  return removed
}
