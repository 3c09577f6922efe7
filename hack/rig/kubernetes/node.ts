/** A node of Kubernetes on a machine of the rig: containerd with the images, kubelet, kube-proxy. */
import { cpSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { nodeLayout } from '../layout.ts'
import type { Machine } from '../machine.ts'
import { until } from '../processes.ts'
import { Containerd } from './containerd.ts'
import type { Credentials } from './credentials.ts'
import { hasImages, importMissing, putImages } from './image-store.ts'
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

const READY_MS = 300_000

export const containerdOn = (machine: Machine, kind: KubernetesKind, tools: Tools): Containerd =>
  new Containerd(machine, {
    version: kind.containerd,
    bin: tools.newer?.containerd,
    sandboxImage: IMAGES.pause,
  })

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

  get hasImages(): boolean {
    return hasImages(this.machine)
  }

  /**
   * @param archives of images, as the machine sees them
   * @param store with these images, for a node that has none; it keeps its own when it stops
   */
  async startRuntime(archives: readonly string[], store?: string): Promise<void> {
    const { machine } = this
    const containerd = containerdOn(machine, this.#kind, this.#tools)
    await this.#replacePlugins()
    if (store !== undefined && !this.hasImages) await putImages(machine, store)
    await containerd.up()
    await importMissing(archives, { machine, containerd })
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
