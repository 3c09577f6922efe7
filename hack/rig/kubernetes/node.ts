/** A node of Kubernetes on a machine of the rig: containerd with the images, kubelet, kube-proxy. */
import { appendFileSync, cpSync, existsSync, mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { nodeLayout } from '../layout.ts'
import type { Machine } from '../machine.ts'
import { until } from '../processes.ts'
import { Containerd } from './containerd.ts'
import type { Credentials } from './credentials.ts'
import { IMAGES } from './images.ts'
import type { KubernetesKind } from './kind.ts'
import { type Culprit, demandRunning, describeLogs, type Kubectl } from './kubectl.ts'
import { startKubelet } from './kubelet.ts'
import { ETC } from './layout.ts'
import type { PodNetwork } from './network.ts'
import { startProxy } from './proxy.ts'

export interface Tools {
  kubernetes: string
  /** Absent where Debian's are used. */
  newer?: {
    containerd: string
    /** Of CNI: those that are chained. A runtime asks for STATUS only where all of a chain speak CNI 1.1.0; Debian's do not. */
    plugins: string
  }
}

export const CHAINED = ['portmap', 'bandwidth']

export interface NodeModules {
  machine: Machine
  kind: KubernetesKind
  tools: Tools
  credentials: Credentials
  kubectl: Kubectl
  network: PodNetwork
}

interface NodeCondition {
  type: string
  status: string
  reason: string
  message: string
  lastHeartbeatTime: string
}

interface NodeObject {
  spec: { podCIDRs?: string[] }
  status: { conditions?: NodeCondition[] }
}

/** Names the archives whose images are in containerd's store, which is kept when the node stops. */
const IMPORTED = '/var/lib/containerd/rig-imported'

const READY_MS = 300_000

export class KubernetesNode {
  readonly machine: Machine
  readonly #kind: KubernetesKind
  readonly #tools: Tools
  readonly #credentials: Credentials
  readonly #kubectl: Kubectl
  readonly #network: PodNetwork
  /** When this object started kubelet. */
  #started: Date | undefined

  constructor(modules: NodeModules) {
    this.machine = modules.machine
    this.#kind = modules.kind
    this.#tools = modules.tools
    this.#credentials = modules.credentials
    this.#kubectl = modules.kubectl
    this.#network = modules.network
  }

  get name(): string {
    return this.machine.name
  }

  get layout() {
    return nodeLayout(this.name)
  }

  /** @param images archives, as the machine sees them; each holds what its name says */
  async startRuntime(images: readonly string[]): Promise<void> {
    const { machine } = this
    const options = {
      version: this.#kind.containerd,
      bin: this.#tools.newer?.containerd,
      sandboxImage: IMAGES.pause,
    }
    await this.#replacePlugins()
    const containerd = new Containerd(machine, options)
    await containerd.up()
    const record = machine.path(IMPORTED)
    const imported = existsSync(record) ? readFileSync(record, 'utf8').split('\n') : []
    for (const archive of images.filter(each => !imported.includes(each))) {
      await containerd.importImages(archive)
      appendFileSync(record, `${archive}\n`)
    }
  }

  /** After each boot: the machine's own come first. */
  async #replacePlugins(): Promise<void> {
    const folder = this.#tools.newer?.plugins
    if (folder === undefined) return
    const files = CHAINED.map(name => join(folder, name))
    await this.machine.must(['cp', '--remove-destination', ...files, '/opt/cni/bin/'])
  }

  /** Starts kubelet and kube-proxy. Returns when the API server knows the node, and which addresses its pods may have. */
  async register(): Promise<void> {
    const { machine, name, layout: node } = this
    const bin = this.#tools.kubernetes
    const kubelet = this.#credentials.kubeconfig(`kubelet-${name}`, `system:node:${name}`, ['system:nodes'])
    mkdirSync(machine.path(ETC), { recursive: true })
    cpSync(this.#credentials.path('ca.pem'), machine.path(`${ETC}/ca.pem`))
    cpSync(kubelet, machine.path(`${ETC}/kubelet.conf`))
    cpSync(
      this.#credentials.kubeconfig('kube-proxy', 'system:kube-proxy'),
      machine.path(`${ETC}/kube-proxy.conf`),
    )
    const { taints, podRanges } = this.#network
    const now = new Date()
    if (await startKubelet(machine, { bin, node, taints })) this.#started = now
    await startProxy(machine, { bin, mode: this.#kind.proxy, podRanges })
    await this.#kubectl.wait(['--for=create', `node/${name}`], READY_MS, this.culprits)
    await this.#kubectl.wait(['--for=jsonpath={.spec.podCIDRs}', `node/${name}`], READY_MS, this.culprits)
  }

  /** @returns one of each family */
  async podCIDRs(): Promise<string[]> {
    const node = await this.#kubectl.json<NodeObject>(['get', 'node', this.name])
    return node.spec.podCIDRs ?? []
  }

  /** Ready as the kubelet says that runs now: what the one before the power failed said stands for a while. */
  async awaitReady(): Promise<void> {
    const since = Math.floor((this.#started?.getTime() ?? 0) / 1000) * 1000
    let last = ''
    await until(
      async () => {
        demandRunning(this.culprits)
        const ready = await this.#readyCondition()
        last = `${ready?.reason}: ${ready?.message}`
        return ready?.status === 'True' && Date.parse(ready.lastHeartbeatTime) >= since
      },
      READY_MS,
      () => `${this.name} is not Ready: ${last}\n${describeLogs(this.culprits)}`,
      200,
    )
  }

  async #readyCondition(): Promise<NodeCondition | undefined> {
    const node = await this.#kubectl.json<NodeObject>(['get', 'node', this.name])
    return node.status.conditions?.find(({ type }) => type === 'Ready')
  }

  get culprits(): Culprit[] {
    return ['containerd', 'kubelet', 'kube-proxy'].map(service => ({ machine: this.machine, service }))
  }
}
