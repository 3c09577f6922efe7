/** A node of Kubernetes on a machine of the rig: containerd with the images, kubelet, kube-proxy. */
import { cpSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { nodeLayout } from '../layout.ts'
import type { Machine } from '../machine.ts'
import { Containerd } from './containerd.ts'
import type { Credentials } from './credentials.ts'
import { IMAGES } from './images.ts'
import type { KubernetesKind } from './kind.ts'
import type { Culprit, Kubectl } from './kubectl.ts'
import { startKubelet, type Taint } from './kubelet.ts'
import { CLUSTER_CIDR, ETC } from './layout.ts'
import { startProxy } from './proxy.ts'

export interface Tools {
  kubernetes: string
  /** Absent where Debian's containerd is used. */
  containerd: string | undefined
}

export interface NodeModules {
  machine: Machine
  kind: KubernetesKind
  tools: Tools
  credentials: Credentials
  kubectl: Kubectl
}

/** Names the archive whose images are in containerd's store, which is kept when the node stops. */
const IMPORTED = '/var/lib/containerd/rig-imported'

const READY_MS = 120_000

export class KubernetesNode {
  readonly machine: Machine
  readonly #kind: KubernetesKind
  readonly #tools: Tools
  readonly #credentials: Credentials
  readonly #kubectl: Kubectl

  constructor(modules: NodeModules) {
    this.machine = modules.machine
    this.#kind = modules.kind
    this.#tools = modules.tools
    this.#credentials = modules.credentials
    this.#kubectl = modules.kubectl
  }

  get name(): string {
    return this.machine.name
  }

  get layout() {
    return nodeLayout(this.name)
  }

  /** @param images an archive, as the machine sees it */
  async startRuntime(images: string): Promise<void> {
    const { machine } = this
    const options = {
      version: this.#kind.containerd,
      bin: this.#tools.containerd,
      sandboxImage: IMAGES.pause,
    }
    const containerd = new Containerd(machine, options)
    await containerd.up()
    const imported = machine.path(IMPORTED)
    if (existsSync(imported) && readFileSync(imported, 'utf8') === images) return
    await containerd.importImages(images)
    writeFileSync(imported, images)
  }

  /** Starts kubelet and kube-proxy. Returns when the API server knows the node, and which addresses its pods may have. */
  async register(taints: readonly Taint[]): Promise<void> {
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
    await startKubelet(machine, { bin, node, taints })
    await startProxy(machine, { bin, mode: this.#kind.proxy, podRanges: CLUSTER_CIDR })
    await this.#kubectl.wait(['--for=create', `node/${name}`], READY_MS, this.#culprits)
    await this.#kubectl.wait(['--for=jsonpath={.spec.podCIDRs}', `node/${name}`], READY_MS, this.#culprits)
  }

  /** @returns one of each family */
  async podCIDRs(): Promise<string[]> {
    const node = await this.#kubectl.json<{ spec: { podCIDRs?: string[] } }>(['get', 'node', this.name])
    return node.spec.podCIDRs ?? []
  }

  awaitReady(): Promise<void> {
    return this.#kubectl.wait(['--for=condition=Ready', `node/${this.name}`], READY_MS, this.#culprits)
  }

  get #culprits(): Culprit[] {
    return ['containerd', 'kubelet', 'kube-proxy'].map(service => ({ machine: this.machine, service }))
  }
}
