/**
 * A real Kubernetes on the rig's machines: the control plane in the underlay's namespaces, on each node containerd,
 * kubelet and kube-proxy. hack/kubernetes is a thin layer over this class; tests use it directly.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { goTool } from '../../go/tools.ts'
import { Cluster } from '../cluster.ts'
import type { Machine } from '../machine.ts'
import { type OnStep, type RunOptions, type RunResult, type Step, stepTimer } from '../processes.ts'
import { layApiPath } from './api-path.ts'
import { BRIDGE } from './bridge.ts'
import { ControlPlane } from './control-plane.ts'
import { Credentials } from './credentials.ts'
import {
  awaitServing,
  daemonPod,
  type Kustomizations,
  killDaemon,
  kustomizationsIn,
  NAMESPACE,
  twillByDaemonSet,
} from './daemonset.ts'
import { applyDns, awaitDns } from './dns.ts'
import { imageStore } from './image-store.ts'
import { imagesArchive } from './images.ts'
import { raiseInotifyLimit } from './inotify.ts'
import { type KindWishes, type KubernetesKind, settleKind } from './kind.ts'
import { Kubectl } from './kubectl.ts'
import type { PodNetwork } from './network.ts'
import { CHAINED, containerdOn, KubernetesNode, type Tools } from './node.ts'
import { twillByProcess } from './twill.ts'

export interface KubernetesUp extends KindWishes {
  /** Default 2. */
  nodes?: number | undefined
  /** Hears of each step when it is done. */
  onStep?: OnStep
}

/** Twill's kinds; its daemons wait until there are such. */
export const DEFINITIONS = join(import.meta.dirname, '../../../deploy/crds')

const PROGRAMS = [
  ...['kube-apiserver', 'kube-controller-manager', 'kube-scheduler'],
  ...['kubelet', 'kube-proxy', 'kubectl'],
]

export class KubernetesCluster {
  /** What it stands on. */
  readonly rig: Cluster
  readonly #folder: string
  readonly #credentials: Credentials

  /** @throws Error for a name that cannot be a folder's */
  constructor(name: string) {
    this.rig = new Cluster(name)
    this.#folder = join(this.rig.folder, 'kubernetes')
    this.#credentials = new Credentials(join(this.#folder, 'credentials'))
  }

  get name(): string {
    return this.rig.name
  }

  get #kindFile(): string {
    return join(this.#folder, 'kind.json')
  }

  get exists(): boolean {
    return existsSync(this.#kindFile)
  }

  /** @throws Error if there is no such rig */
  get kind(): KubernetesKind {
    if (!this.exists) throw new Error(`there is no Kubernetes rig "${this.name}" (hack/kubernetes up)`)
    return JSON.parse(readFileSync(this.#kindFile, 'utf8')) as KubernetesKind
  }

  /** The administrator's, a file on the host. Its server is reached from the underlay's network and from the nodes'. */
  get kubeconfig(): string {
    return this.#credentials.admin
  }

  /** Brings up what is missing; what runs stays as it is. Returns when every node is Ready. */
  async up({ nodes: count = 2, onStep, ...wishes }: KubernetesUp = {}): Promise<void> {
    const step = stepTimer(onStep)
    const kind = settleKind(wishes, this.exists ? this.kind : undefined)
    mkdirSync(this.#folder, { recursive: true, mode: 0o700 })
    writeFileSync(this.#kindFile, JSON.stringify(kind))
    const raised = raiseInotifyLimit()
    if (raised !== undefined) onStep?.(raised, 0)
    const [tools, images] = [await toolsOf(kind), await this.#images(kind)]
    this.#credentials.prepare()
    const { surroundings, store } = this.#network(kind)
    await this.rig.up({ nodes: count, daemons: false, store, surroundings, ...(onStep && { onStep }) })
    const nodes = this.#nodes(kind, tools)
    await Promise.all([
      step('API server, controller manager, scheduler', () => this.#controlPlane(tools).up()),
      step('containerd, images', () => this.#startRuntimes(nodes, { kind, tools, images })),
    ])
    const kubectl = this.#kubectl(tools)
    await applyDns(kubectl)
    if (kind.cni !== 'bridge') await kubectl.must(['apply', '-f', DEFINITIONS])
    await this.#join(nodes, step)
    await step('names are answered', () => awaitDns(kubectl))
  }

  async #startRuntimes(
    nodes: readonly KubernetesNode[],
    { kind, tools, images }: { kind: KubernetesKind; tools: Tools; images: readonly string[] },
  ): Promise<void> {
    const { underlay: machine } = this.rig
    const containerd = containerdOn(machine, kind, tools)
    const store = nodes.every(node => node.hasImages)
      ? undefined
      : await imageStore(images, { machine, containerd })
    await Promise.all(nodes.map(node => node.startRuntime(images, store)))
  }

  /** Makes nodes of machines on which containerd runs. */
  async #join(nodes: readonly KubernetesNode[], step: Step): Promise<void> {
    await Promise.all(nodes.map(node => step(`${node.name}: kubelet has registered`, () => node.register())))
    await step('the network of pods', () => this.#connect())
    await Promise.all(nodes.map(node => step(`${node.name}: Ready`, () => node.awaitReady())))
  }

  #kubectl(tools: Tools): Kubectl {
    const { underlay } = this.rig
    return new Kubectl({ underlay, bin: tools.kubernetes, kubeconfig: this.kubeconfig })
  }

  #controlPlane(tools: Tools): ControlPlane {
    const { underlay } = this.rig
    const modules = { underlay, bin: tools.kubernetes, credentials: this.#credentials }
    return new ControlPlane({ ...modules, kubectl: this.#kubectl(tools) })
  }

  #node(name: string, kind: KubernetesKind, tools: Tools): KubernetesNode {
    const modules = { kind, tools, credentials: this.#credentials, kubectl: this.#kubectl(tools) }
    const network = this.#network(kind)
    return new KubernetesNode({ machine: this.rig.node(name), network, ...modules })
  }

  #network({ cni, install, store }: KubernetesKind): PodNetwork {
    if (cni === 'bridge') return BRIDGE
    return install === 'daemonset'
      ? twillByDaemonSet(this.#folder, store)
      : twillByProcess(this.#credentials, store)
  }

  get nodes(): string[] {
    return this.rig.nodes
  }

  #nodes(kind: KubernetesKind, tools: Tools): KubernetesNode[] {
    return this.rig.nodes.map(name => this.#node(name, kind, tools))
  }

  /** Of all nodes that run: those that were there before may have to know the new ones. */
  async #connect(): Promise<void> {
    const { kind } = this
    const tools = await toolsOf(kind)
    const nodes = this.#nodes(kind, tools)
    const [first] = nodes
    if (first?.machine.running) await layApiPath(this.rig.underlay, first.machine)
    await this.#network(kind).install(nodes, this.#kubectl(tools))
  }

  async #images(kind: KubernetesKind): Promise<string[]> {
    return [await imagesArchive(), ...this.#network(kind).images()]
  }

  /** As if its power failed: every process and interface gone; /var/lib, /etc and /opt are kept. */
  stopNode(name: string): Promise<void> {
    return this.rig.stopNode(name)
  }

  /** The same machine boots again. Returns when it is Ready; what the API server knows of its pods may still be old. */
  async startNode(name: string, onStep?: OnStep): Promise<void> {
    const step = stepTimer(onStep)
    const { kind } = this
    const node = this.#node(name, kind, await toolsOf(kind))
    await step(`${name}: boots`, () => this.rig.startNode(name, { daemon: false }))
    const images = await this.#images(kind)
    await step(`${name}: containerd`, () => node.startRuntime(images))
    await this.#join([node], step)
  }

  /** SIGKILL or SIGTERM; clients find nobody there. @returns false if it was not running */
  async stopApiServer(signal: 'TERM' | 'KILL' = 'KILL'): Promise<boolean> {
    return this.#controlPlane(await toolsOf(this.kind)).stopApiServer(signal)
  }

  /** Returns when it is ready. */
  async startApiServer(): Promise<void> {
    await this.#controlPlane(await toolsOf(this.kind)).startApiServer()
  }

  /** As the administrator. */
  async kubectl(args: readonly string[], options: RunOptions = {}): Promise<RunResult> {
    return this.#kubectl(await toolsOf(this.kind)).run(args, options)
  }

  /** @returns what kubectl printed. @throws Error with what it said */
  async mustKubectl(args: readonly string[], input?: string): Promise<string> {
    return this.#kubectl(await toolsOf(this.kind)).must(args, input)
  }

  /** Folders for `kubectl -k`, of a DaemonSet. */
  get kustomizations(): Kustomizations {
    return kustomizationsIn(this.#folder)
  }

  /** As an operator runs it: in the daemon's container, or on the machine of which the daemon is a process. */
  async twillctl(node: string, args: readonly string[], options: RunOptions = {}): Promise<RunResult> {
    const { kind } = this
    if (kind.install === 'process') return this.node(node).run(['twillctl', ...args], options)
    const kubectl = this.#kubectl(await toolsOf(kind))
    const at = ['-n', NAMESPACE, 'exec', '-i', await daemonPod(node, kubectl)]
    return kubectl.run([...at, '--', 'twillctl', ...args], options)
  }

  /** SIGKILL to the daemon in its container. Returns when it has ended; kubelet starts another. */
  killDaemon(node: string): Promise<void> {
    return killDaemon(this.node(node))
  }

  /** Of a DaemonSet. Returns when the node's serves. */
  async awaitDaemon(node: string): Promise<void> {
    const { kind } = this
    const tools = await toolsOf(kind)
    await awaitServing(this.#node(node, kind, tools), this.#kubectl(tools))
  }

  /** @throws Error if the rig has no such node */
  node(name: string): Machine {
    return this.rig.node(name)
  }

  /** Removes everything, also after a half-failed `up`. @returns what it removed, one line each */
  down(): Promise<string[]> {
    return this.rig.down()
  }

  /** What is on the host of this rig; empty after `down`. */
  leftovers(): string[] {
    return this.rig.leftovers()
  }
}

async function toolsOf({ containerd }: KubernetesKind): Promise<Tools> {
  const kubernetes = await goTool('kubernetes', PROGRAMS)
  if (containerd === '1.6') return { kubernetes }
  const plugins = await goTool('cni-plugins', CHAINED)
  return { kubernetes, newer: { containerd: await goTool('containerd'), plugins } }
}
