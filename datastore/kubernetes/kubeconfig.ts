/**
 * How the API server is reached, as a kubeconfig says it, or as a pod is told of its service account ("in-cluster").
 *
 * Only what a program on a node needs is taken: certificates and tokens, inline or by file. What would mean another
 * server or another user than was asked for (a proxy, impersonation, a login) is refused by name rather than passed
 * over. Relative paths are relative to the kubeconfig.
 *
 * Invariant: no message quotes the file, but for names of its entries. Any value may be a secret, also one at the wrong place.
 */
import { dirname, resolve } from 'node:path'
import { parse as parseYaml, YAMLError } from 'yaml'
import { z } from 'zod'
import { TwillError } from '../../lib/errors.ts'
import { formatProblem, formatValue, validate } from '../../lib/validation.ts'

/** `field` is what the operator calls it. */
export type Source =
  | { readonly field: string; readonly file: string }
  | { readonly field: string; readonly data: Buffer }

export interface Access {
  /** http://HOST:PORT or https://HOST:PORT, and the path below which the API lies; no slash at its end. */
  readonly server: string
  /** Whom the server's certificate must be for; null: the host. */
  readonly serverName: string | null
  /** null: the system's authorities. */
  readonly ca: Source | null
  /** The server's certificate is not looked at. */
  readonly insecure: boolean
  readonly certificate: { readonly cert: Source; readonly key: Source } | null
  readonly token: Source | null
}

const none = (why: string) => z.undefined(`expected none: ${why}`).optional()
const text = z.string().min(1)

const NO_PLUGINS = 'no credential plugin is run; expected a token, a tokenFile or a client-certificate'

const clusterSchema = z.looseObject({
  server: z.string().regex(/^https?:\/\/[^/@\s]+(\/\S*)?$/, 'expected http://HOST:PORT or https://HOST:PORT'),
  'tls-server-name': text.optional(),
  'insecure-skip-tls-verify': z.boolean().default(false),
  'certificate-authority': text.optional(),
  'certificate-authority-data': z.base64().optional(),
  'proxy-url': none('the API server is spoken to without a proxy'),
})

const userSchema = z.looseObject({
  token: text.optional(),
  tokenFile: text.optional(),
  'client-certificate': text.optional(),
  'client-certificate-data': z.base64().optional(),
  'client-key': text.optional(),
  'client-key-data': z.base64().optional(),
  username: none('API servers take no passwords'),
  as: none('a daemon speaks for nobody but itself'),
  exec: none(NO_PLUGINS),
  'auth-provider': none(NO_PLUGINS),
})

const entries = z.array(z.looseObject({ name: z.string() })).default([])

const documentSchema = z.looseObject({
  'current-context': text,
  contexts: entries,
  clusters: entries,
  users: entries,
})

const contextSchema = z.looseObject({ cluster: text, user: z.string().default('') })

/** @param path of the kubeconfig. @throws config.invalid, naming the file and the field */
export function readKubeconfig(path: string, content: string): Access {
  const document = checked(documentSchema, parsed(path, content), path)
  const find = (list: 'contexts' | 'clusters' | 'users', field: string, name: string): unknown => {
    const entry = document[list].find(each => each.name === name)
    if (entry !== undefined) return entry[field]
    const known = document[list].map(each => each.name).join(', ')
    throw refuse(path, `${list}: expected one of the name ${formatValue(name)}, found ${known || 'none'}`)
  }
  const check = <T>(schema: z.ZodType<T>, value: unknown, where: string) =>
    checked(schema, value, `${path}: ${where}`)

  const current = document['current-context']
  const context = check(contextSchema, find('contexts', 'context', current), `context ${current}`)
  const at = { cluster: `cluster ${context.cluster}`, user: `user ${context.user}` }
  const cluster = check(clusterSchema, find('clusters', 'cluster', context.cluster), at.cluster)
  const user = check(userSchema, context.user === '' ? {} : find('users', 'user', context.user), at.user)

  const source = (where: string, fields: Readonly<Record<string, unknown>>, field: string): Source | null => {
    const [data, file] = [fields[`${field}-data`], fields[field]]
    if (typeof data === 'string')
      return { field: `${path}: ${where}: ${field}-data`, data: Buffer.from(data, 'base64') }
    if (typeof file !== 'string') return null
    return { field: `${path}: ${where}: ${field}`, file: resolve(dirname(path), file) }
  }
  const [cert, key] = [source(at.user, user, 'client-certificate'), source(at.user, user, 'client-key')]
  if ((cert === null) !== (key === null))
    throw refuse(path, `${at.user}: expected both client-certificate and client-key, or neither`)
  return {
    server: cluster.server.replace(/\/+$/, ''),
    serverName: cluster['tls-server-name'] ?? null,
    insecure: cluster['insecure-skip-tls-verify'],
    ca: source(at.cluster, cluster, 'certificate-authority'),
    certificate: cert === null || key === null ? null : { cert, key },
    token: tokenOf(user, `${path}: ${at.user}`, dirname(path)),
  }
}

/** A tokenFile counts more: it is renewed. */
function tokenOf(user: z.infer<typeof userSchema>, where: string, folder: string): Source | null {
  if (user.tokenFile !== undefined)
    return { field: `${where}: tokenFile`, file: resolve(folder, user.tokenFile) }
  return user.token === undefined ? null : { field: `${where}: token`, data: Buffer.from(user.token) }
}

export const SERVICE_ACCOUNT = '/var/run/secrets/kubernetes.io/serviceaccount'

/** @throws config.invalid: this process runs in no pod */
export function inCluster(environment: Readonly<Record<string, string | undefined>>, folder: string): Access {
  const { KUBERNETES_SERVICE_HOST: host, KUBERNETES_SERVICE_PORT: port } = environment
  if (!host || !port)
    throw new TwillError(
      'config.invalid',
      'kubernetes.kubeconfig: null: expected the path of a kubeconfig, or to run in a pod (KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT)',
      { field: 'kubernetes.kubeconfig' },
    )
  const source = (name: string): Source => ({ field: "the pod's service account", file: `${folder}/${name}` })
  return {
    server: `https://${host.includes(':') ? `[${host}]` : host}:${port}`,
    serverName: null,
    insecure: false,
    ca: source('ca.crt'),
    certificate: null,
    token: source('token'),
  }
}

function parsed(path: string, content: string): unknown {
  try {
    // Warnings would be printed, with the line that they are about.
    return parseYaml(content, { logLevel: 'error' })
  } catch (error) {
    const { code, linePos } = error instanceof YAMLError ? error : {}
    const where = linePos === undefined ? '' : `: line ${linePos[0].line}, column ${linePos[0].col}`
    throw refuse(path, `not YAML${where}${code === undefined ? '' : ` (${code})`}`)
  }
}

function checked<T>(schema: z.ZodType<T>, value: unknown, where: string): T {
  const result = validate(schema, value)
  if (result.ok) return result.value
  const lines = result.problems.map(problem =>
    formatProblem(where, { ...problem, value: problem.value === 'missing' ? 'missing' : '' }),
  )
  throw new TwillError('config.invalid', lines.join('\n'), { where, lines })
}

function refuse(path: string, message: string): TwillError {
  return new TwillError('config.invalid', `${path}: ${message}`, { path })
}
