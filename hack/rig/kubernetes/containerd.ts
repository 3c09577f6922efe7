/** containerd on a node, as Debian has it (1.6) or the newest (2.4). */
import { mkdirSync, writeFileSync } from 'node:fs'
import type { Machine } from '../machine.ts'
import { until } from '../processes.ts'
import { demandRunning, describeLogs } from './kubectl.ts'

export type ContainerdVersion = '1.6' | '2.4'

/** What it keeps: images, and what containers write. */
export const STORE = '/var/lib/containerd'
export const CONTAINERD_SOCKET = '/run/containerd/containerd.sock'

const CONFIG = '/etc/containerd/config.toml'

/** Without CAP_SYS_RESOURCE nobody may lower an oom score, and runc would fail over it. */
const CONFIGS: Record<ContainerdVersion, (sandboxImage: string) => string> = {
  '1.6': sandboxImage => `version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "${sandboxImage}"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/opt/cni/bin"
    conf_dir = "/etc/cni/net.d"
`,
  '2.4': sandboxImage => `version = 3
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "${sandboxImage}"
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = ["/opt/cni/bin"]
    conf_dir = "/etc/cni/net.d"
`,
}

export interface ContainerdOptions {
  version: ContainerdVersion
  /** Where the programs of 2.4 are. */
  bin: string | undefined
  sandboxImage: string
}

export class Containerd {
  readonly #machine: Machine
  readonly #options: ContainerdOptions

  constructor(machine: Machine, options: ContainerdOptions) {
    this.#machine = machine
    this.#options = options
  }

  get version(): ContainerdVersion {
    return this.#options.version
  }

  /** Starts it unless it runs, and returns when it answers. */
  async up(): Promise<void> {
    const { version, sandboxImage } = this.#options
    const machine = this.#machine
    if (machine.servicePid('containerd') === undefined) {
      mkdirSync(machine.path('/etc/containerd'), { recursive: true })
      writeFileSync(machine.path(CONFIG), CONFIGS[version](sandboxImage))
      await machine.startService('containerd', this.#command(['containerd']))
    }
    const culprits = [{ machine, service: 'containerd' }]
    await until(
      async () => {
        demandRunning(culprits)
        return (await machine.run(this.#command(['ctr', 'version']))).status === 0
      },
      60_000,
      () => `${machine.name}: containerd does not answer\n${describeLogs(culprits)}`,
      50,
    )
  }

  /** Its databases are whole afterwards. */
  async down(): Promise<void> {
    await this.#machine.endService('containerd', 'TERM')
  }

  /** @param archive as the machine sees it */
  async importImages(archive: string): Promise<void> {
    // 2.x would ask its transfer service, which wants to know the platform of every layer.
    const local = this.#options.version === '1.6' ? [] : ['--local']
    const command = ['ctr', '-n', 'k8s.io', 'images', 'import', ...local, archive]
    await this.#machine.must(this.#command(command))
  }

  /** The shim is looked for in the PATH. */
  #command(command: string[]): string[] {
    const { bin } = this.#options
    if (bin === undefined) return command
    return ['env', `PATH=${bin}:${this.#machine.environment.PATH}`, ...command]
  }
}
