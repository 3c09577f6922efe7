/** kubelet on a node. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { stringify } from 'yaml'
import { type NodeLayout, UNDERLAY } from '../layout.ts'
import type { Machine } from '../machine.ts'
import { CONTAINERD_SOCKET } from './containerd.ts'
import { ETC, SERVICES } from './layout.ts'

export interface Taint {
  key: string
  effect: string
}

export interface KubeletOptions {
  bin: string
  node: NodeLayout
  /** At registration. */
  taints: readonly Taint[]
}

/** Machine-wide, so a kubelet here must find them as it wants them rather than write them. */
const SYSCTLS = {
  'vm/overcommit_memory': 1,
  'vm/panic_on_oom': 0,
  'kernel/panic': 10,
  'kernel/panic_on_oops': 1,
  'kernel/keys/root_maxkeys': 1_000_000,
  'kernel/keys/root_maxbytes': 25_000_000,
}

const CONFIG = `${ETC}/kubelet.yaml`

/** The machine has kubelet.conf and ca.pem. @returns false if it was running */
export async function startKubelet(machine: Machine, options: KubeletOptions): Promise<boolean> {
  if (machine.servicePid('kubelet') !== undefined) return false
  await hideSysctls(machine)
  mkdirSync(machine.path(`${ETC}/manifests`), { recursive: true })
  writeFileSync(machine.path(`${ETC}/resolv.conf`), `nameserver ${UNDERLAY.v4.address}\n`)
  writeFileSync(machine.path(CONFIG), stringify(configuration(options.taints)))
  const { name, v4, v6 } = options.node
  const flags = [`--config=${CONFIG}`, `--kubeconfig=${ETC}/kubelet.conf`, `--node-ip=${v4},${v6}`]
  await machine.startService('kubelet', [
    join(options.bin, 'kubelet'),
    ...flags,
    `--hostname-override=${name}`,
  ])
  return true
}

/** Files with the wanted values over the machine's. They go with its mount namespace. */
async function hideSysctls(machine: Machine): Promise<void> {
  const lines = Object.entries(SYSCTLS).map(([path, value]) => {
    const file = `/run/sysctl-${path.replaceAll('/', '-')}`
    return `echo ${value} >${file}; mountpoint -q /proc/sys/${path} || mount --bind ${file} /proc/sys/${path}`
  })
  await machine.script(lines.join('\n'))
}

function configuration(taints: readonly Taint[]): object {
  return {
    apiVersion: 'kubelet.config.k8s.io/v1beta1',
    kind: 'KubeletConfiguration',
    authentication: { anonymous: { enabled: false }, x509: { clientCAFile: `${ETC}/ca.pem` } },
    authorization: { mode: 'Webhook' },
    cgroupDriver: 'cgroupfs',
    // The host may have version 1, which 1.35 and later refuse.
    failCgroupV1: false,
    failSwapOn: false,
    containerRuntimeEndpoint: `unix://${CONTAINERD_SOCKET}`,
    staticPodPath: `${ETC}/manifests`,
    volumePluginDir: '/var/lib/kubelet/volumeplugins',
    clusterDNS: [SERVICES.dns],
    clusterDomain: 'cluster.local',
    resolvConf: `${ETC}/resolv.conf`,
    registerWithTaints: taints,
    // The host's disk is everybody's: no node evicts pods or images over it.
    evictionHard: { 'memory.available': '50Mi' },
    imageGCHighThresholdPercent: 100,
    imageMinimumGCAge: '24h',
    // Events are what tests and people read: none is held back.
    eventRecordQPS: 0,
  }
}
