/** Twill on the nodes as it is installed anywhere: the container image, and the DaemonSet of deploy/manifests. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { stringify } from 'yaml'
import { STARTUP_TAINT } from '../../../daemon/kubernetes/own-node.ts'
import { whyNotReady } from '../daemon.ts'
import { PODS, ROOT } from '../layout.ts'
import { until } from '../processes.ts'
import { twillConfig } from './config.ts'
import type { KubernetesKind } from './kind.ts'
import { demandRunning, type Kubectl } from './kubectl.ts'
import type { PodNetwork } from './network.ts'
import type { KubernetesNode } from './node.ts'
import { twillArchive } from './twill-image.ts'

export const NAMESPACE = 'twill-system'
/** A label of the daemons' pods. */
export const DAEMON_POD = 'app.kubernetes.io/name=twilld'
const SERVING_MS = 300_000

/** @param folder of the rig, where the kustomization is written */
export function twillByDaemonSet(folder: string, store: KubernetesKind['store']): PodNetwork {
  return {
    surroundings: { dropsPods: true, firewall: false, executables: false },
    store: store === 'etcd' ? 'etcd' : 'none',
    podRanges: `${PODS.v4},${PODS.v6}`,
    taints: [{ key: STARTUP_TAINT, effect: 'NoExecute' }],
    images: () => [twillArchive()],
    async install(nodes, kubectl) {
      await kubectl.must(['apply', '-k', writeKustomization(folder, store)])
      const running = nodes.filter(node => node.machine.running)
      await Promise.all(running.map(node => awaitServing(node, kubectl)))
    },
  }
}

/**
 * The manifests with the rig's configuration. deploy/manifests/etcd wants certificates that the rig's etcd has not: its
 * base is used.
 */
function writeKustomization(folder: string, store: KubernetesKind['store']): string {
  const own = join(folder, 'manifests')
  mkdirSync(own, { recursive: true })
  writeFileSync(join(own, 'twilld.yaml'), stringify(twillConfig(store, null)))
  const manifests = { etcd: 'base', kubernetes: 'kubernetes' }[store]
  const behavior = { etcd: 'create', kubernetes: 'replace' }[store]
  const kustomization = {
    apiVersion: 'kustomize.config.k8s.io/v1beta1',
    kind: 'Kustomization',
    namespace: NAMESPACE,
    // Absolute ones are not taken.
    resources: [relative(own, join(ROOT, 'deploy/manifests', manifests))],
    configMapGenerator: [{ name: 'twilld', namespace: NAMESPACE, behavior, files: ['twilld.yaml'] }],
  }
  writeFileSync(join(own, 'kustomization.yaml'), stringify(kustomization))
  return own
}

/** The daemon's socket is in a folder of the node: what answers there is of this boot. */
async function awaitServing({ machine, culprits }: KubernetesNode, kubectl: Kubectl): Promise<void> {
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
