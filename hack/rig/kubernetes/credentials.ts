/**
 * Who is who in a rig's Kubernetes: an authority, certificates by openssl, and kubeconfigs that carry them. All of it
 * lies in one folder of the rig, on the host, and is made once: nodes that come back are known.
 */
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { API, API_URL, SERVICES } from './layout.ts'

/** Longer than a rig is left up. */
const DAYS = '365'
const NEW_KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes']
const API_NAMES = ['kubernetes', 'kubernetes.default', 'kubernetes.default.svc']

export class Credentials {
  readonly folder: string

  constructor(folder: string) {
    this.folder = folder
  }

  path(file: string): string {
    return join(this.folder, file)
  }

  /** The administrator's kubeconfig. */
  get admin(): string {
    return this.path('admin.conf')
  }

  /** Makes what the control plane needs, unless it is there. */
  prepare(): void {
    mkdirSync(this.folder, { recursive: true, mode: 0o700 })
    this.#make('ca', '/CN=twill-rig', [])
    const addresses = [API.address, '127.0.0.1', ...SERVICES.api].map(address => `IP:${address}`)
    const names = [...addresses, ...API_NAMES.map(name => `DNS:${name}`)].join(',')
    this.#sign('kube-apiserver', '/CN=kube-apiserver', ['-addext', `subjectAltName=${names}`])
    this.#sign('kubelet-client', '/O=system:masters/CN=kube-apiserver-kubelet-client')
    this.#sign('front-proxy-client', '/CN=front-proxy-client')
    this.kubeconfig('admin', 'admin', ['system:masters'])
  }

  /**
   * A kubeconfig that holds everything itself, made unless it is there.
   * @returns its path on the host
   */
  kubeconfig(name: string, user: string, groups: readonly string[] = []): string {
    const path = this.path(`${name}.conf`)
    if (existsSync(path)) return path
    this.#sign(name, [...groups.map(group => `/O=${group}`), `/CN=${user}`].join(''))
    const data = (file: string) => readFileSync(this.path(file)).toString('base64')
    const text = `apiVersion: v1
kind: Config
clusters: [{name: rig, cluster: {server: "${API_URL}", certificate-authority-data: ${data('ca.pem')}}}]
users: [{name: rig, user: {client-certificate-data: ${data(`${name}.pem`)}, client-key-data: ${data(`${name}-key.pem`)}}}]
contexts: [{name: rig, context: {cluster: rig, user: rig}}]
current-context: rig
`
    writeFileSync(`${path}.new`, text, { mode: 0o600 })
    renameSync(`${path}.new`, path)
    return path
  }

  #sign(name: string, subject: string, extra: readonly string[] = []): void {
    const by = ['-CA', this.path('ca.pem'), '-CAkey', this.path('ca-key.pem')]
    const usage = ['basicConstraints=critical,CA:false', 'extendedKeyUsage=serverAuth,clientAuth']
    this.#make(name, subject, [...by, ...usage.flatMap(each => ['-addext', each]), ...extra])
  }

  /** The certificate comes last: half of a pair is made anew. */
  #make(name: string, subject: string, extra: readonly string[]): void {
    const [cert, key] = [this.path(`${name}.pem`), this.path(`${name}-key.pem`)]
    if (existsSync(cert)) return
    const output = ['-keyout', key, '-out', `${cert}.new`, '-days', DAYS]
    execFileSync('openssl', ['req', '-x509', ...NEW_KEY, ...output, '-subj', subject, ...extra], {
      stdio: 'pipe',
    })
    renameSync(`${cert}.new`, cert)
  }
}
