/** The logs of a rig's machines and of the pods on them, copied to where they outlive it. */
import { cpSync, existsSync, mkdirSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import type { Cluster } from '../rig/cluster.ts'

/** /var/log/pods, as the host has what the machine wrote. */
const POD_LOGS = 'var.upper/log/pods'

/** Each machine's in a folder of its name. */
export function keepLogs(rig: Cluster, folder: string): void {
  for (const machine of ['underlay', ...rig.nodes]) {
    const state = join(rig.folder, machine)
    if (!existsSync(state)) continue
    mkdirSync(join(folder, machine), { recursive: true })
    for (const name of readdirSync(state).filter(name => name.endsWith('.log')))
      cpSync(join(state, name), join(folder, machine, name))
    const pods = join(state, POD_LOGS)
    if (existsSync(pods)) cpSync(pods, join(folder, machine, 'pods'), { recursive: true })
  }
}
