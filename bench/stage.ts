/** Where it is measured: a rig, with two nodes or one, namespaces for pods on the first, and the daemon's own figures. */
import { readFileSync, readlinkSync } from 'node:fs'
import type { Status } from '../daemon/api/types.ts'
import { Cluster } from '../hack/rig/cluster.ts'
import type { Machine } from '../hack/rig/machine.ts'
import { markedProcesses } from '../hack/rig/processes.ts'
import { compile, Spawner } from './spawner.ts'

export const NODE = 'node1'

export class Stage {
  readonly cluster = new Cluster(`bench-${process.pid}`)
  spawner!: Spawner

  get machine(): Machine {
    return this.cluster.node(NODE)
  }

  /** @param pods namespaces bench0 … on the first node */
  async up(pods: number, nodes = 2): Promise<void> {
    await this.cluster.up({ nodes, config: { coolDown: '1s' } })
    await this.machine.script(
      `i=0; while [ $i -lt ${pods} ]; do ip netns add bench$i; ip -n bench$i link set lo up; i=$((i+1)); done`,
    )
    this.spawner = new Spawner(this.machine, compile('spawner'))
  }

  async down(): Promise<void> {
    this.spawner?.end()
    await this.cluster.down()
  }

  async status(): Promise<Status> {
    return JSON.parse((await this.cluster.api(NODE, '/v1/status')).body) as Status
  }

  /** Sum of the seconds that the daemon has spent on successful calls of this command. */
  async secondsServed(command: string): Promise<number> {
    const { body } = await this.cluster.api(NODE, '/v1/metrics')
    const line = new RegExp(`^twill_cni_seconds_sum\\{command="${command}",code="0"\\} (\\S+)`, 'm').exec(
      body,
    )
    return Number(line?.[1] ?? 0)
  }

  /** Of the first node's daemon, as the host sees it. */
  #daemonPid(): number {
    const home = networkOf(this.machine.pid)
    const pid = markedProcesses(this.cluster.name).find(
      candidate => networkOf(candidate) === home && /\/node$/.test(programOf(candidate)),
    )
    if (pid === undefined) throw new Error('twilld does not run')
    return pid
  }

  /** MiB resident (VmRSS). */
  residentMiB(): number {
    const kib = /^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${this.#daemonPid()}/status`, 'utf8'))
    return Number(kib?.[1]) / 1024
  }

  /** Per cent of one core over this time. */
  async processorShare(forMs: number): Promise<number> {
    const pid = this.#daemonPid()
    const before = ticksOf(pid)
    await pause(forMs)
    // USER_HZ is 100: a tick is 10 ms.
    return ((ticksOf(pid) - before) * 10 * 100) / forMs
  }

  /** Resolves when every deleted pod's address is free and its link gone. */
  async settled(): Promise<void> {
    for (;;) {
      const { pods } = await this.status()
      if (pods.every(pod => pod.state === 'attached')) return
      await pause(20)
    }
  }
}

export const pause = (ms: number): Promise<void> => new Promise(resolve => setTimeout(resolve, ms))

const networkOf = (pid: number): string => readlinkSync(`/proc/${pid}/ns/net`)
const programOf = (pid: number): string => readFileSync(`/proc/${pid}/cmdline`, 'latin1').split('\0')[0] ?? ''

/** utime and stime: the 14th and 15th field of proc(5) stat. */
function ticksOf(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? []
  return Number(fields[11]) + Number(fields[12])
}
