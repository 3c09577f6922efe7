/**
 * Pods of the rig: a network namespace inside a node, attached by executing the node's CNI plugins. Pods are a matter of
 * this boot: a node that stops loses them, and what the rig knows of them is forgotten with the node's /run.
 */
import { createHash, randomBytes, randomUUID } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { type CniCall, type CniResult, type ConfList, cniAdd, cniDel, readConfList } from './cni-client.ts'
import type { Machine } from './machine.ts'

export interface Pod {
  name: string
  namespace: string
  node: string
  uid: string
  containerId: string
  /** Path inside the node. */
  netns: string
  ifName: string
  labels: Record<string, string>
  /** Without prefix length. */
  addresses: string[]
  /** What ADD was called with and answered, for DEL and CHECK. */
  list: ConfList
  result: CniResult | undefined
}

export interface PodOptions {
  namespace?: string
  labels?: Record<string, string>
}

/** Survives no reboot of the node, as the pods themselves. */
const RECORDS = '/run/rig-pods'

export function cniCallOf(pod: Pod): CniCall {
  const labels = Object.entries(pod.labels).map(([key, value]) => ({ key, value }))
  return {
    containerId: pod.containerId,
    netns: pod.netns,
    ifName: pod.ifName,
    args: {
      IgnoreUnknown: '1',
      K8S_POD_NAMESPACE: pod.namespace,
      K8S_POD_NAME: pod.name,
      K8S_POD_INFRA_CONTAINER_ID: pod.containerId,
      K8S_POD_UID: pod.uid,
    },
    ...(labels.length > 0 ? { cniArgs: { labels } } : {}),
  }
}

function remember(machine: Machine, pod: Pod): void {
  mkdirSync(machine.path(RECORDS), { recursive: true, mode: 0o700 })
  writeFileSync(machine.path(`${RECORDS}/${pod.name}.json`), JSON.stringify(pod))
}

/** @returns pods of this machine, none if it is not running */
export function readPods(machine: Machine): Pod[] {
  if (!machine.running || !existsSync(machine.path(RECORDS))) return []
  const folder = machine.path(RECORDS)
  return readdirSync(folder)
    .sort()
    .map(name => JSON.parse(readFileSync(`${folder}/${name}`, 'utf8')) as Pod)
}

/**
 * The record is written before the first plugin runs, so that a half-added pod can be deleted.
 * @throws CniError of the plugin that refused, after DEL and removal of the namespace
 */
export async function addPod(machine: Machine, name: string, options: PodOptions = {}): Promise<Pod> {
  if (!/^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$/.test(name))
    throw new Error(`pod name ${JSON.stringify(name)} is not a DNS label`)
  const list = readConfList(machine)
  const pod: Pod = {
    name,
    namespace: options.namespace ?? 'default',
    node: machine.name,
    uid: randomUUID(),
    containerId: createHash('sha256').update(randomBytes(16)).digest('hex'),
    netns: `/run/netns/${name}`,
    ifName: 'eth0',
    labels: options.labels ?? {},
    addresses: [],
    list,
    result: undefined,
  }
  await machine.must(['sh', '-euc', `ip netns add "$1"; ip -n "$1" link set lo up`, 'sh', name])
  remember(machine, pod)
  try {
    pod.result = await cniAdd(machine, list, cniCallOf(pod))
  } catch (error) {
    await deletePod(machine, pod)
    throw error
  }
  pod.addresses = (pod.result.ips ?? []).map(ip => ip.address.replace(/\/.*/, ''))
  remember(machine, pod)
  return pod
}

/** DEL, then the namespace, as runtimes do. @throws CniError; the pod stays known then, to be deleted again */
export async function deletePod(machine: Machine, pod: Pod): Promise<void> {
  await cniDel(machine, pod.list, cniCallOf(pod), pod.result)
  await machine.run(['ip', 'netns', 'del', pod.name])
  rmSync(machine.path(`${RECORDS}/${pod.name}.json`), { force: true })
}
