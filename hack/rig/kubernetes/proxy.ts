/** kube-proxy on a node, a process. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { stringify } from 'yaml'
import type { Machine } from '../machine.ts'
import { ETC } from './layout.ts'

export type ProxyMode = 'nftables' | 'iptables'

export interface ProxyOptions {
  bin: string
  mode: ProxyMode
  /** Where pods' addresses come from: what comes from elsewhere to a Service is masqueraded. */
  podRanges: string
}

const CONFIG = `${ETC}/kube-proxy.yaml`

/** Does nothing if it runs. The machine has kube-proxy.conf. */
export async function startProxy(machine: Machine, options: ProxyOptions): Promise<void> {
  if (machine.servicePid('kube-proxy') !== undefined) return
  const config = {
    apiVersion: 'kubeproxy.config.k8s.io/v1alpha1',
    kind: 'KubeProxyConfiguration',
    mode: options.mode,
    hostnameOverride: machine.name,
    clientConnection: { kubeconfig: `${ETC}/kube-proxy.conf` },
    detectLocalMode: 'ClusterCIDR',
    clusterCIDR: options.podRanges,
    // The limits are the machine's, and not to be written in a network namespace.
    conntrack: { maxPerCore: 0, min: 0, tcpEstablishedTimeout: '0s', tcpCloseWaitTimeout: '0s' },
  }
  writeFileSync(machine.path(CONFIG), stringify(config))
  await machine.startService('kube-proxy', [join(options.bin, 'kube-proxy'), `--config=${CONFIG}`])
}
