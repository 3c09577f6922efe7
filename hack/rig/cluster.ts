/**
 * The rig: etcd, an underlay and nodes as namespaces, a twilld on each. hack/cluster is a thin layer over this class;
 * tests use it directly.
 *
 * Invariant: nothing of it is outside its namespaces but marked processes and one folder, so `down` needs no record
 * of what `up` got to. Trap: pods are forgotten with their node (a reboot), addresses and journal are not.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import {
  type ApiAnswer,
  askDaemon,
  type DaemonOptions,
  startDaemon,
  whyNotReady,
  writeDaemonConfig,
} from './daemon.ts'
import { etcdctl, startEtcd, stopEtcd } from './etcd.ts'
import { nodeLayout, nodeNames, ROOT, rigFolder } from './layout.ts'
import { findLeftovers, removeLeftovers } from './leftovers.ts'
import { Machine } from './machine.ts'
import { addPod, deletePod, type Pod, type PodOptions, readPods } from './pods.ts'
import { type OnStep, type RunOptions, type RunResult, stepTimer } from './processes.ts'
import { connectNode, type Leak, layUnderlay, readLeaks, unplugNode } from './underlay.ts'

/** What a rig has beside the machines; all of it unless something else than hack/cluster builds on them. */
export interface Surroundings {
  /** The underlay drops packets that carry a pod's address. */
  dropsPods: boolean
  /** node2 has a firewall, as Docker and distributions leave them. */
  firewall: boolean
  /** Twill is on the machine, its executables beside the reference plugins; otherwise somebody installs it. */
  twill: boolean
}

export interface UpOptions {
  /** Default 2. */
  nodes?: number
  mode?: 'vxlan'
  /** Default etcd. Embedded: one node, no etcd. None: nor a daemon. */
  store?: 'etcd' | 'embedded' | 'none'
  /** false: machines and etcd only. */
  daemons?: boolean
  /** Keys of daemon/config.ts for every node. */
  config?: Record<string, unknown>
  surroundings?: Surroundings
  /** Hears of each step when it is done. */
  onStep?: OnStep
}

interface NodeRecord {
  /** Counts replacements of the machine. */
  generation: number
}

interface RigRecord {
  nodes: Record<string, NodeRecord>
  config: Record<string, unknown>
  /** Absent: etcd. */
  store?: UpOptions['store']
  /** Absent: ALL_OF_IT. */
  surroundings?: Surroundings
}

const ALL_OF_IT: Surroundings = { dropsPods: true, firewall: true, twill: true }

const FIREWALLED = 'node2'

export class Cluster {
  readonly name: string
  readonly folder: string
  readonly underlay: Machine

  /** @throws Error for a name that cannot be a folder's */
  constructor(name: string) {
    this.name = name
    this.folder = rigFolder(name)
    this.underlay = this.#machine('underlay')
  }

  #machine(name: string): Machine {
    return new Machine({ name, cluster: this.name, rigFolder: this.folder })
  }

  get #recordFile(): string {
    return join(this.folder, 'rig.json')
  }

  #read(): RigRecord {
    if (!existsSync(this.#recordFile)) return { nodes: {}, config: {} }
    return JSON.parse(readFileSync(this.#recordFile, 'utf8')) as RigRecord
  }

  #write(record: RigRecord): void {
    mkdirSync(this.folder, { recursive: true, mode: 0o755 })
    writeFileSync(this.#recordFile, JSON.stringify(record))
  }

  get exists(): boolean {
    return existsSync(this.#recordFile)
  }

  /** Names of its nodes, running or stopped. */
  get nodes(): string[] {
    return Object.keys(this.#read().nodes)
  }

  /** @throws Error if the rig has no such node */
  node(name: string): Machine {
    if (!this.nodes.includes(name))
      throw new Error(`no such node: ${name} (there are: ${this.nodes.join(', ') || 'none'})`)
    return this.#machine(name)
  }

  /** Brings up what is missing; what runs stays as it is. Returns when every daemon is ready. */
  async up(options: UpOptions = {}): Promise<void> {
    const step = stepTimer(options.onStep)
    const record = this.#read()
    record.config = options.config ?? record.config
    record.store = options.store ?? record.store ?? 'etcd'
    record.surroundings = options.surroundings ?? record.surroundings ?? ALL_OF_IT
    const embedded = record.store === 'embedded'
    const wanted = options.nodes ?? (embedded ? 1 : 2)
    if (embedded && wanted > 1) throw new Error('an embedded store is of one node: expected --nodes 1')
    for (const name of nodeNames(wanted)) record.nodes[name] ??= { generation: 0 }
    this.#write(record)
    await step('underlay: bridge, gateway, outside', async () => {
      if (await readyOrDown(this.underlay)) return
      await this.underlay.up()
      await layUnderlay(this.underlay, record.surroundings ?? ALL_OF_IT)
      markReady(this.underlay)
    })
    const etcd = record.store === 'etcd' ? step('etcd', () => startEtcd(this.underlay)) : Promise.resolve()
    for (const name of this.nodes) await step(`${name}: a machine of its own`, () => this.#machineUp(name))
    await etcd
    if (options.daemons === false || record.store === 'none') return
    await Promise.all(this.nodes.map(name => step(`${name}: twilld is ready`, () => this.startDaemon(name))))
  }

  async #machineUp(name: string): Promise<void> {
    const machine = this.node(name)
    if (await readyOrDown(machine)) return
    await unplugNode(this.underlay, nodeLayout(name))
    const { nodes, config, store, surroundings = ALL_OF_IT } = this.#read()
    await machine.up()
    const network = { cluster: this.name, node: nodeLayout(name), generation: nodes[name]!.generation }
    const firewalled = surroundings.firewall && name === FIREWALLED
    await connectNode(this.underlay, machine, { ...network, firewalled })
    if (surroundings.twill)
      writeDaemonConfig(
        machine,
        store === 'embedded' ? { datastore: { type: 'embedded' }, ...config } : config,
      )
    await installPlugins(machine, surroundings.twill)
    markReady(machine)
  }

  /** Removes everything of this cluster, also after a half-failed `up`. @returns what it removed, one line each */
  async down(): Promise<string[]> {
    const removed: string[] = []
    for (const name of [...this.nodes, 'underlay']) {
      const machine = this.#machine(name)
      if (!machine.running) continue
      removed.push(`${name}: its processes, interfaces and mounts`)
      await machine.down()
    }
    return [...removed, ...(await removeLeftovers(this.name))]
  }

  /** What is on the host of this cluster; empty after `down`. */
  leftovers(): string[] {
    return findLeftovers(this.name)
  }

  /** As if its power failed: every process and interface gone; /var/lib, /etc and /opt are kept. */
  async stopNode(name: string): Promise<void> {
    await this.node(name).down()
    await unplugNode(this.underlay, nodeLayout(name))
  }

  /** The same machine boots again, with an empty /run. */
  async startNode(name: string, options: DaemonOptions & { daemon?: boolean } = {}): Promise<void> {
    await this.#machineUp(name)
    if (options.daemon !== false) await this.startDaemon(name, options)
  }

  /** Another machine takes the name and the addresses: empty disk, other MAC. */
  async replaceNode(name: string, options: DaemonOptions & { daemon?: boolean } = {}): Promise<void> {
    const machine = this.node(name)
    await this.stopNode(name)
    rmSync(machine.state, { recursive: true, force: true })
    const record = this.#read()
    record.nodes[name]!.generation += 1
    this.#write(record)
    await this.startNode(name, options)
  }

  startDaemon(node: string, options: DaemonOptions = {}): Promise<void> {
    return startDaemon(this.node(node), options)
  }

  /** SIGTERM. @returns false if it was not running */
  stopDaemon(node: string): Promise<boolean> {
    return this.node(node).endService('twilld', 'TERM')
  }

  /** SIGKILL. @returns false if it was not running */
  killDaemon(node: string): Promise<boolean> {
    return this.node(node).endService('twilld', 'KILL')
  }

  startStore(): Promise<void> {
    return startEtcd(this.underlay)
  }

  /** @returns false if it was not running */
  stopStore(): Promise<boolean> {
    return stopEtcd(this.underlay)
  }

  etcdctl(args: string[], input?: string): Promise<RunResult> {
    return etcdctl(this.underlay, args, input)
  }

  /** GET (or another method) on the node's /run/twill/api.sock. */
  api(node: string, path: string, method = 'GET', body?: string): Promise<ApiAnswer> {
    return askDaemon(this.node(node), path, method, body)
  }

  pods(): Pod[] {
    return this.nodes.flatMap(name => readPods(this.#machine(name)))
  }

  /** @throws Error if there is none */
  pod(name: string): Pod {
    const pod = this.pods().find(candidate => candidate.name === name)
    if (pod === undefined) throw new Error(`no such pod: ${name}`)
    return pod
  }

  /** @throws CniError; Error if the name is taken on any node */
  async addPod(node: string, name: string, options: PodOptions = {}): Promise<Pod> {
    if (this.pods().some(pod => pod.name === name)) throw new Error(`pod ${name} exists`)
    return addPod(this.node(node), name, options)
  }

  deletePod(name: string): Promise<void> {
    const pod = this.pod(name)
    return deletePod(this.node(pod.node), pod)
  }

  /** @param name a node, "underlay" (the outside, etcd), or a pod */
  exec(name: string, command: string[], options: RunOptions = {}): Promise<RunResult> {
    if (name === 'underlay') return this.underlay.run(command, options)
    if (this.nodes.includes(name)) return this.node(name).run(command, options)
    const pod = this.pod(name)
    return this.node(pod.node).run(['ip', 'netns', 'exec', pod.name, ...command], options)
  }

  leaks(): Promise<Leak[]> {
    return readLeaks(this.underlay)
  }

  /** @returns undefined when the node's daemon is ready, else why not */
  whyNotReady(node: string): Promise<string | undefined> {
    const machine = this.node(node)
    return machine.running ? whyNotReady(machine) : Promise.resolve('the node is stopped')
  }
}

/** Inside the machine, so that it goes with it. */
const READY = '/run/rig-ready'

const markReady = (machine: Machine): void => writeFileSync(machine.path(READY), '')

/** A machine whose set-up was interrupted is of no use: it goes down, to be made anew. */
async function readyOrDown(machine: Machine): Promise<boolean> {
  if (machine.running && existsSync(machine.path(READY))) return true
  await machine.down()
  return false
}

/**
 * The reference plugins and our executables, where runtimes look for them. Without ours, plugins are files as a package
 * installs them: whoever sees the folder from a container follows no link out of it.
 */
async function installPlugins(machine: Machine, twill: boolean): Promise<void> {
  const installed = existsSync(REFERENCE) ? readdirSync(REFERENCE) : []
  const plugins = installed.map(name => join(REFERENCE, name))
  const built = join(ROOT, 'dist/bin')
  const ours = ['twill', 'twill-ipam', 'twill-offline'].map(name => join(built, name)).filter(existsSync)
  const lines = twill
    ? [...plugins, ...ours].map(path => `ln -sfn '${path}' /opt/cni/bin/`)
    : plugins.map(path => `cp -u '${path}' /opt/cni/bin/`)
  await machine.script(lines.join('\n'))
}

const REFERENCE = '/usr/lib/cni'
