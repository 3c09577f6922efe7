/**
 * What this process shows the API server, read from where the kubeconfig or the pod's service account has it. Tokens
 * and certificates are renewed under a running program, the kubeconfig with them: all is read again after a minute,
 * and at once when the server refuses it. What cannot be read at such a time (a file being replaced) leaves the last
 * in use.
 */
import { isDeepStrictEqual } from 'node:util'
import type { Clock } from '../../lib/clock.ts'
import { messageOf, TwillError } from '../../lib/errors.ts'
import type { Log } from '../../lib/log.ts'
import type { KubernetesSettings } from '../settings.ts'
import { tlsMistake } from '../tls.ts'
import { type Access, inCluster, readKubeconfig, SERVICE_ACCOUNT, type Source } from './kubeconfig.ts'

/** Service account tokens are renewed when a fifth of their life is left, which is never under two minutes. */
const REREAD_MS = 60_000

export interface Tls {
  readonly ca?: Buffer
  readonly cert?: Buffer
  readonly key?: Buffer
  readonly serverName?: string
  readonly insecure: boolean
}

export interface Material {
  readonly server: string
  readonly tls: Tls
  readonly token: string | null
}

export interface CredentialsModules {
  readonly clock: Clock
  readonly log: Log
  readonly readFile: (path: string) => Promise<Buffer>
  /** Of this process: where a pod is told of the API server. */
  readonly environment: Readonly<Record<string, string | undefined>>
}

export class Credentials {
  readonly #settings: Pick<KubernetesSettings, 'kubeconfig'> & { readonly serviceAccount?: string }
  readonly #modules: CredentialsModules
  #material: Material
  #readAt: number
  #problem: string | null = null

  /** @throws config.invalid: a file cannot be read or does not hold what it should */
  static async open(
    settings: Pick<KubernetesSettings, 'kubeconfig'> & {
      /** Its folder, for tests. */
      readonly serviceAccount?: string
    },
    modules: CredentialsModules,
  ): Promise<Credentials> {
    const material = await read(settings, modules)
    if (material.tls.insecure)
      modules.log.warn({ server: material.server }, 'the certificate of the API server is not verified')
    return new Credentials(settings, modules, material)
  }

  private constructor(
    settings: Pick<KubernetesSettings, 'kubeconfig'>,
    modules: CredentialsModules,
    material: Material,
  ) {
    this.#settings = settings
    this.#modules = modules
    this.#material = material
    this.#readAt = modules.clock.boottimeMs()
  }

  get server(): string {
    return this.#material.server
  }

  /** Why they could not be read again; null: they could, or have not been. */
  get problem(): string | null {
    return this.#problem
  }

  /** The same object for as long as nothing changed. */
  async current(): Promise<Material> {
    if (this.#modules.clock.boottimeMs() - this.#readAt >= REREAD_MS) await this.renew(this.#material)
    return this.#material
  }

  /** Reads them now. @returns whether they are others than those `used`, whoever read them */
  async renew(used: Material): Promise<boolean> {
    this.#readAt = this.#modules.clock.boottimeMs()
    try {
      const material = await read(this.#settings, this.#modules)
      this.#problem = null
      if (!isDeepStrictEqual(material, this.#material)) this.#material = material
    } catch (error) {
      const problem = messageOf(error)
      if (problem !== this.#problem)
        this.#modules.log.warn({ error: problem }, 'credentials could not be read again: the last are kept')
      this.#problem = problem
    }
    return this.#material !== used
  }
}

async function read(
  settings: Pick<KubernetesSettings, 'kubeconfig'> & { readonly serviceAccount?: string },
  modules: CredentialsModules,
): Promise<Material> {
  const { kubeconfig, serviceAccount = SERVICE_ACCOUNT } = settings
  const access =
    kubeconfig === null
      ? inCluster(modules.environment, serviceAccount)
      : readKubeconfig(kubeconfig, String(await contentOf(fileAt(kubeconfig), modules)))
  return resolveAccess(access, modules)
}

const fileAt = (path: string): Source => ({ field: 'kubernetes.kubeconfig', file: path })

async function resolveAccess(access: Access, modules: CredentialsModules): Promise<Material> {
  const content = (source: Source | null) => (source === null ? undefined : contentOf(source, modules))
  const [ca, cert, key, token] = await Promise.all([
    content(access.ca),
    content(access.certificate?.cert ?? null),
    content(access.certificate?.key ?? null),
    content(access.token),
  ])
  const sources = { ca: access.ca, cert: access.certificate?.cert, key: access.certificate?.key }
  const mistake = tlsMistake({ ...(ca && { ca }), ...(cert && { cert }), ...(key && { key }) })
  if (mistake !== null) throw refuse(sources[mistake.field] as Source, mistake.message)
  return {
    server: access.server,
    tls: {
      ...(ca && { ca }),
      ...(cert && { cert }),
      ...(key && { key }),
      ...(access.serverName === null ? {} : { serverName: access.serverName }),
      insecure: access.insecure,
    },
    token: token === undefined ? null : tokenOf(access.token as Source, token),
  }
}

function tokenOf(source: Source, content: Buffer): string {
  const token = content.toString('utf8').trim()
  // Anything else would not pass as a header, or would be one more.
  if (/^[\x21-\x7e]+$/.test(token)) return token
  throw refuse(source, 'expected a token: printable characters without spaces')
}

async function contentOf(source: Source, modules: CredentialsModules): Promise<Buffer> {
  if ('data' in source) return source.data
  try {
    return await modules.readFile(source.file)
  } catch (error) {
    throw refuse(source, `expected a readable file: ${messageOf(error)}`)
  }
}

function refuse(source: Source, message: string): TwillError {
  const where = 'file' in source ? `${source.field}: ${JSON.stringify(source.file)}` : source.field
  return new TwillError('config.invalid', `${where}: ${message}`, { field: source.field })
}
