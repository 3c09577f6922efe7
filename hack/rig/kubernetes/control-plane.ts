/** etcd, API server, controller manager and scheduler of a rig's Kubernetes, in the underlay's namespaces. */
import { cpSync } from 'node:fs'
import { join } from 'node:path'
import { etcdUrl, startEtcd } from '../etcd.ts'
import type { Machine } from '../machine.ts'
import { until } from '../processes.ts'
import type { Credentials } from './credentials.ts'
import { demandRunning, describeLogs, type Kubectl } from './kubectl.ts'
import { API, CLUSTER_CIDR, ETC, KUBERNETES_ETCD, NODE_RANGES, SERVICE_CIDR } from './layout.ts'

const API_SERVER = 'kube-apiserver'
const CONTROLLER_MANAGER = 'kube-controller-manager'
const SCHEDULER = 'kube-scheduler'

const READY_MS = 300_000

export class ControlPlane {
  readonly #underlay: Machine
  readonly #bin: string
  readonly #credentials: Credentials
  readonly #kubectl: Kubectl

  constructor(modules: { underlay: Machine; bin: string; credentials: Credentials; kubectl: Kubectl }) {
    this.#underlay = modules.underlay
    this.#bin = modules.bin
    this.#credentials = modules.credentials
    this.#kubectl = modules.kubectl
  }

  /** Starts what does not run, and returns when it serves. */
  async up(): Promise<void> {
    this.#credentials.prepare()
    for (const name of [CONTROLLER_MANAGER, SCHEDULER]) this.#credentials.kubeconfig(name, `system:${name}`)
    cpSync(this.#credentials.folder, this.#underlay.path(ETC), { recursive: true })
    await startEtcd(this.#underlay, KUBERNETES_ETCD)
    await this.startApiServer()
    await this.#start(CONTROLLER_MANAGER, controllerManagerFlags())
    await this.#start(SCHEDULER, [...clientFlags(SCHEDULER), '--leader-elect=false'])
    // The controller manager's work: a pod made before it is refused.
    await this.#kubectl.wait(['--for=create', 'serviceaccount/default'], READY_MS, [
      { machine: this.#underlay, service: API_SERVER },
      { machine: this.#underlay, service: CONTROLLER_MANAGER },
    ])
  }

  async startApiServer(): Promise<void> {
    await this.#start(API_SERVER, apiServerFlags())
    const culprits = [{ machine: this.#underlay, service: API_SERVER }]
    await until(
      async () => {
        demandRunning(culprits)
        return (await this.#kubectl.run(['get', '--raw', '/readyz'])).status === 0
      },
      READY_MS,
      () => `the API server is not ready\n${describeLogs(culprits)}`,
      200,
    )
  }

  /** @returns false if it was not running */
  stopApiServer(signal: 'TERM' | 'KILL'): Promise<boolean> {
    return this.#underlay.endService(API_SERVER, signal)
  }

  async #start(name: string, flags: readonly string[]): Promise<void> {
    if (this.#underlay.servicePid(name) !== undefined) return
    await this.#underlay.startService(name, [join(this.#bin, name), ...flags])
  }
}

const file = (name: string) => join(ETC, name)

function apiServerFlags(): string[] {
  return [
    `--etcd-servers=${etcdUrl(KUBERNETES_ETCD)}`,
    // Pods find it by this address behind the Service `kubernetes`.
    `--advertise-address=${API.address}`,
    `--secure-port=${API.port}`,
    `--tls-cert-file=${file('kube-apiserver.pem')}`,
    `--tls-private-key-file=${file('kube-apiserver-key.pem')}`,
    `--client-ca-file=${file('ca.pem')}`,
    '--authorization-mode=Node,RBAC',
    '--enable-admission-plugins=NodeRestriction',
    '--allow-privileged',
    `--service-cluster-ip-range=${SERVICE_CIDR}`,
    '--service-account-issuer=https://kubernetes.default.svc.cluster.local',
    `--service-account-key-file=${file('ca.pem')}`,
    `--service-account-signing-key-file=${file('ca-key.pem')}`,
    `--kubelet-client-certificate=${file('kubelet-client.pem')}`,
    `--kubelet-client-key=${file('kubelet-client-key.pem')}`,
    // Nothing here resolves the nodes' names.
    '--kubelet-preferred-address-types=InternalIP',
    `--requestheader-client-ca-file=${file('ca.pem')}`,
    '--requestheader-allowed-names=front-proxy-client',
    '--requestheader-extra-headers-prefix=X-Remote-Extra-',
    '--requestheader-group-headers=X-Remote-Group',
    '--requestheader-username-headers=X-Remote-User',
    `--proxy-client-cert-file=${file('front-proxy-client.pem')}`,
    `--proxy-client-key-file=${file('front-proxy-client-key.pem')}`,
    '--profiling=false',
  ]
}

const clientFlags = (name: string): string[] =>
  ['kubeconfig', 'authentication-kubeconfig', 'authorization-kubeconfig'].map(
    flag => `--${flag}=${file(`${name}.conf`)}`,
  )

function controllerManagerFlags(): string[] {
  return [
    ...clientFlags(CONTROLLER_MANAGER),
    '--leader-elect=false',
    '--use-service-account-credentials',
    `--root-ca-file=${file('ca.pem')}`,
    `--service-account-private-key-file=${file('ca-key.pem')}`,
    `--cluster-signing-cert-file=${file('ca.pem')}`,
    `--cluster-signing-key-file=${file('ca-key.pem')}`,
    '--allocate-node-cidrs',
    '--configure-cloud-routes=false',
    `--cluster-cidr=${CLUSTER_CIDR}`,
    `--service-cluster-ip-range=${SERVICE_CIDR}`,
    `--node-cidr-mask-size-ipv4=${NODE_RANGES.v4.mask}`,
    `--node-cidr-mask-size-ipv6=${NODE_RANGES.v6.mask}`,
    // A node that died is noticed while somebody waits for it.
    '--node-monitor-period=2s',
    '--node-monitor-grace-period=20s',
    '--profiling=false',
  ]
}
