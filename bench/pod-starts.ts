/**
 * Pods started on one node of a real Kubernetes, and how long it takes until they are Ready, as whoever watches the API
 * server sees it.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { goTool } from '../hack/go/tools.ts'
import type { KubernetesCluster } from '../hack/rig/kubernetes/cluster.ts'
import { IMAGES } from '../hack/rig/kubernetes/images.ts'

const NAMESPACE = 'bench'
const PATIENCE_MS = 180_000

interface Seen {
  readonly ready: boolean
  readonly address: string
}

export class PodStarts {
  readonly #cluster: KubernetesCluster
  readonly #node: string
  readonly #watch: ChildProcess
  readonly #seen = new Map<string, Seen>()
  #changed: () => void = () => {}

  private constructor(cluster: KubernetesCluster, node: string, kubectl: string) {
    this.#cluster = cluster
    this.#node = node
    const columns = 'N:.metadata.name,R:.status.conditions[?(@.type=="Ready")].status,A:.status.podIP'
    const words = ['get', 'pods', '-n', NAMESPACE, '-w', '--no-headers', '-o', `custom-columns=${columns}`]
    const { underlay } = cluster.rig
    const inside = ['-t', String(underlay.pid), '-n', '--', kubectl, '--kubeconfig', cluster.kubeconfig]
    this.#watch = spawn('nsenter', [...inside, ...words], {
      env: underlay.environment,
      stdio: ['ignore', 'pipe', 'ignore'],
    })
    createInterface({ input: this.#watch.stdout! }).on('line', line => this.#note(line))
  }

  static async open(cluster: KubernetesCluster, node: string): Promise<PodStarts> {
    await cluster.mustKubectl(['create', 'namespace', NAMESPACE])
    await cluster.mustKubectl([
      'wait',
      '-n',
      NAMESPACE,
      '--for=create',
      'serviceaccount/default',
      '--timeout=60s',
    ])
    return new PodStarts(cluster, node, join(await goTool('kubernetes', ['kubectl']), 'kubectl'))
  }

  #note(line: string): void {
    const [name = '', ready, address = ''] = line.split(/\s+/)
    this.#seen.set(name, { ready: ready === 'True', address })
    this.#changed()
  }

  /**
   * All of them created by one command; they stay until `remove`.
   * @returns milliseconds from before that command until the last is Ready
   * @throws Error: one is not Ready in time, or its address does not begin as expected
   */
  async start(names: readonly string[], addressBegins: string): Promise<number> {
    const begin = performance.now()
    const items = names.map(name => pod(name, this.#node))
    await this.#cluster.mustKubectl(
      ['create', '-f', '-'],
      JSON.stringify({ apiVersion: 'v1', kind: 'List', items }),
    )
    await this.#until(names, seen => seen?.ready === true)
    const took = performance.now() - begin
    const stray = names.find(name => !this.#seen.get(name)?.address.startsWith(addressBegins))
    if (stray !== undefined)
      throw new Error(`${stray} has ${this.#seen.get(stray)?.address}: expected ${addressBegins}…`)
    return took
  }

  /** Returns when kubelet has let go of them, their networks taken down. */
  async remove(): Promise<void> {
    await this.#cluster.mustKubectl(['delete', 'pods', '-n', NAMESPACE, '--all', '--wait', '--timeout=180s'])
    this.#seen.clear()
  }

  async #until(names: readonly string[], holds: (seen: Seen | undefined) => boolean): Promise<void> {
    const deadline = performance.now() + PATIENCE_MS
    while (!names.every(name => holds(this.#seen.get(name)))) {
      const left = deadline - performance.now()
      if (left <= 0)
        throw new Error(`not Ready: ${names.filter(name => !holds(this.#seen.get(name))).join(' ')}`)
      await new Promise<void>(resolve => {
        const timer = setTimeout(resolve, left)
        this.#changed = () => {
          clearTimeout(timer)
          resolve()
        }
      })
    }
  }

  close(): void {
    this.#watch.kill()
  }
}

/** As plain as they come: a token of its service account, no probe. On the node as if scheduled there. */
function pod(name: string, nodeName: string): object {
  const containers = [{ name: 'main', image: IMAGES.pause }]
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace: NAMESPACE },
    spec: { nodeName, containers, terminationGracePeriodSeconds: 1 },
  }
}
