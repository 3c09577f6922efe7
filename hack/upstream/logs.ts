/** The logs of a rig's machines, copied to where they outlive it. */
import { cpSync, existsSync, mkdirSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import type { Cluster } from '../rig/cluster.ts'

/** Each machine's in a folder of its name. */
export function keepLogs(rig: Cluster, folder: string): void {
  for (const machine of ['underlay', ...rig.nodes]) {
    const state = join(rig.folder, machine)
    if (!existsSync(state)) continue
    mkdirSync(join(folder, machine), { recursive: true })
    for (const name of readdirSync(state).filter(name => name.endsWith('.log')))
      cpSync(join(state, name), join(folder, machine, name))
  }
}
