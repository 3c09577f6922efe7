/** The daemon of a node, as the host sees its process. */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import type { Cluster } from '../hack/rig/cluster.ts'

export class DaemonProcess {
  readonly #cluster: Cluster
  readonly #node: string

  constructor(cluster: Cluster, node: string) {
    this.#cluster = cluster
    this.#node = node
  }

  /** @throws Error: it does not run */
  get pid(): number {
    const home = networkOf(this.#cluster.node(this.#node).pid)
    // In a container it does not carry the rig's mark.
    const pid = readdirSync('/proc')
      .filter(name => /^\d+$/.test(name))
      .map(Number)
      .find(candidate => isDaemon(candidate) && networkOf(candidate) === home)
    if (pid === undefined) throw new Error('twilld does not run')
    return pid
  }

  /** MiB resident (VmRSS). */
  residentMiB(): number {
    const kib = /^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${this.pid}/status`, 'utf8'))
    return Number(kib?.[1]) / 1024
  }

  /** Processor time since its start, in milliseconds. */
  processorMs(): number {
    const fields = readFileSync(`/proc/${this.pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? []
    // utime and stime: the 14th and 15th field of proc(5) stat. USER_HZ is 100: a tick is 10 ms.
    return (Number(fields[11]) + Number(fields[12])) * 10
  }
}

const networkOf = (pid: number): string => readlinkSync(`/proc/${pid}/ns/net`)

function isDaemon(pid: number): boolean {
  try {
    return /node\0.*twilld\.mjs/.test(readFileSync(`/proc/${pid}/cmdline`, 'latin1'))
  } catch {
    // It ended meanwhile.
    return false
  }
}
