/** Where it is measured: a rig, with two nodes or one, namespaces for pods on the first, and the daemon's own figures. */
import type { Status } from '../daemon/api/types.ts'
import { Cluster } from '../hack/rig/cluster.ts'
import type { Machine } from '../hack/rig/machine.ts'
import { DaemonProcess } from './daemon-process.ts'
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

  get #daemon(): DaemonProcess {
    return new DaemonProcess(this.cluster, NODE)
  }

  /** MiB resident (VmRSS). */
  residentMiB(): number {
    return this.#daemon.residentMiB()
  }

  /** Per cent of one core over this time. */
  async processorShare(forMs: number): Promise<number> {
    const before = this.#daemon.processorMs()
    await pause(forMs)
    return ((this.#daemon.processorMs() - before) * 100) / forMs
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
