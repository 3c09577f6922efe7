/** Twill on the nodes as it is installed anywhere: the container image, and the DaemonSet of deploy/manifests. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { stringify } from 'yaml'
import { whyNotReady } from '../daemon.ts'
import { PODS, ROOT } from '../layout.ts'
import type { Machine } from '../machine.ts'
import { isLive, until } from '../processes.ts'
import { TAINTS, twillConfig } from './config.ts'
import type { KubernetesKind } from './kind.ts'
import { demandRunning, type Kubectl } from './kubectl.ts'
import type { PodNetwork } from './network.ts'
import type { KubernetesNode } from './node.ts'
import { twillArchive } from './twill-image.ts'

export const NAMESPACE = 'twill-system'
/** A label of the daemons' pods. */
export const DAEMON_POD = 'app.kubernetes.io/name=twilld'
/** Its command line. */
const IN_CONTAINER = '^/usr/bin/node .*/twilld.mjs'
const SERVING_MS = 300_000

/** @param folder of the rig, where the kustomization is written */
export function twillByDaemonSet(folder: string, store: KubernetesKind['store']): PodNetwork {
  return {
    surroundings: { dropsPods: true, firewall: false, twill: false },
    store: store === 'etcd' ? 'etcd' : 'none',
    podRanges: `${PODS.v4},${PODS.v6}`,
    taints: TAINTS,
    images: () => [twillArchive()],
    async install(nodes, kubectl) {
      writeKustomizations(folder, store)
      await kubectl.must(['apply', '-k', kustomizationsIn(folder).install])
      const running = nodes.filter(node => node.machine.running)
      await Promise.all(running.map(node => awaitServing(node, kubectl)))
    },
  }
}

export interface Kustomizations {
  /** What `up` has applied. */
  install: string
  /** The same of deploy/manifests/uninstall. */
  uninstall: string
}

export const kustomizationsIn = (folder: string): Kustomizations => ({
  install: join(folder, 'manifests'),
  uninstall: join(folder, 'uninstall'),
})

/**
 * The manifests with the rig's configuration. deploy/manifests/etcd wants certificates that the rig's etcd has not: its
 * base is used.
 */
function writeKustomizations(folder: string, store: KubernetesKind['store']): void {
  const { install: own, uninstall } = kustomizationsIn(folder)
  mkdirSync(own, { recursive: true })
  mkdirSync(uninstall, { recursive: true })
  writeFileSync(join(own, 'twilld.yaml'), stringify(twillConfig(store, null)))
  const manifests = { etcd: 'base', kubernetes: 'kubernetes' }[store]
  const behavior = { etcd: 'create', kubernetes: 'replace' }[store]
  const kind = { apiVersion: 'kustomize.config.k8s.io/v1beta1', kind: 'Kustomization' }
  const kustomization = {
    ...kind,
    namespace: NAMESPACE,
    // Absolute ones are not taken.
    resources: [relative(own, join(ROOT, 'deploy/manifests', manifests))],
    configMapGenerator: [{ name: 'twilld', namespace: NAMESPACE, behavior, files: ['twilld.yaml'] }],
  }
  writeFileSync(join(own, 'kustomization.yaml'), stringify(kustomization))
  const change = relative(uninstall, join(ROOT, 'deploy/manifests/uninstall/change'))
  const taken = { ...kind, resources: [relative(uninstall, own)], components: [change] }
  writeFileSync(join(uninstall, 'kustomization.yaml'), stringify(taken))
}

/** @returns the name of the daemon's pod. @throws Error: none is there that stays */
export async function daemonPod(node: string, kubectl: Kubectl): Promise<string> {
  const words = ['-n', NAMESPACE, 'get', 'pods', '-l', DAEMON_POD, `--field-selector=spec.nodeName=${node}`]
  const { items } = await kubectl.json<{ items: DaemonPod[] }>(words)
  const pod = items.find(({ metadata }) => metadata.deletionTimestamp === undefined)
  if (pod === undefined) throw new Error(`${node}: there is no pod of twilld`)
  return pod.metadata.name
}

interface DaemonPod {
  metadata: { name: string; deletionTimestamp?: string }
}

/** Returns when the process in the container has ended; kubelet starts another. */
export async function killDaemon(machine: Machine): Promise<void> {
  const pid = (await machine.must(['pgrep', '-f', IN_CONTAINER])).trim()
  await machine.must(['kill', '-KILL', pid])
  await until(
    () => !isLive(machine.path(`/proc/${pid}/status`)),
    20_000,
    () => `${machine.name}: twilld does not end on SIGKILL`,
  )
}

/** The daemon's socket is in a folder of the node: what answers there is of this boot. */
export async function awaitServing({ machine, culprits }: KubernetesNode, kubectl: Kubectl): Promise<void> {
  let reason: string | undefined
  const serves = async () => {
    demandRunning(culprits)
    reason = await whyNotReady(machine)
    return reason === undefined
  }
  try {
    await until(serves, SERVING_MS, () => `${machine.name}: twilld does not serve: ${reason}`, 50)
  } catch (error) {
    throw new Error(`${(error as Error).message}\n${await describe(machine.name, kubectl)}`)
  }
}

async function describe(node: string, kubectl: Kubectl): Promise<string> {
  const pods = ['-n', NAMESPACE, 'get', 'pods', `--field-selector=spec.nodeName=${node}`]
  const names = (await kubectl.run([...pods, '-o', 'name'])).stdout.split('\n').filter(Boolean)
  const words = [pods, ...names.map(name => ['-n', NAMESPACE, 'logs', name, '--tail=10'])]
  const said = await Promise.all(words.map(each => kubectl.run(each)))
  return said.map(({ stdout, stderr }) => stdout + stderr).join('\n')
}
