/**
 * Where the datastore and the daemon are: flags, then the environment, then the daemon's own configuration file,
 * so that on a node nothing has to be said. The variables are twilld's: TWILL_CONFIG, TWILL_DATASTORE_TYPE,
 * TWILL_DATASTORE_ENDPOINTS, TWILL_DATASTORE_PREFIX, TWILL_KUBERNETES_ENABLED, TWILL_KUBERNETES_KUBECONFIG, TWILL_RUN_DIR.
 * Of the file only `datastore`, `kubernetes`, `runDir` and `fenceMargin` are read; the rest is the daemon's to judge. TLS files, user and password come from it alone.
 *
 * A default file that does not exist is no error (a workstation has none); a file that was named must be there.
 */
import { resolve } from 'node:path'
import { parseDocument } from 'yaml'
import { z } from 'zod'
import {
  type DatastoreSettings,
  datastoreSettings,
  type KubernetesSettings,
  kubernetesSettings,
  problemOfSettings,
  withDatastoreType,
} from '../datastore/settings.ts'
import { duration, FENCE_MARGIN } from '../lib/duration.ts'
import { messageOf, TwillError } from '../lib/errors.ts'
import { validateOrThrow } from '../lib/validation.ts'
import type { CliModules } from './modules.ts'

export const DEFAULT_CONFIG = '/etc/twill/twilld.yaml'
export const DEFAULT_RUN_DIR = '/run/twill'

export interface ConnectionFlags {
  readonly config: string | undefined
  readonly etcdEndpoints: readonly string[] | undefined
  readonly kubeconfig: string | undefined
  readonly socket: string | undefined
}

export interface Settings {
  /** Embedded, when nothing says where it is: the daemon is asked. */
  readonly datastore: DatastoreSettings
  readonly kubernetes: KubernetesSettings
  readonly socket: string
  /** As the daemons have it, if they have the same configuration. */
  readonly fenceMarginMs: number
  /** The configuration file that was looked for, for messages. */
  readonly configFile: string
}

const configFile = z.object({
  datastore: datastoreSettings,
  kubernetes: kubernetesSettings.prefault({}),
  runDir: z.string().default(DEFAULT_RUN_DIR),
  fenceMargin: duration.prefault(FENCE_MARGIN),
})

/** @throws config.invalid: the file, a variable or a flag is wrong */
export async function readSettings(
  flags: ConnectionFlags,
  modules: Pick<CliModules, 'env' | 'readFile'>,
): Promise<Settings> {
  const named = flags.config ?? modules.env.TWILL_CONFIG
  const path = named ?? DEFAULT_CONFIG
  const file = await readConfig(path, named !== undefined, modules)
  const datastore = datastoreOf(flags, modules.env, file.datastore)
  const kubernetes = kubernetesOf(flags, modules.env, file.kubernetes)
  const problem = problemOfSettings({ datastore, kubernetes })
  if (problem !== null)
    throw new TwillError('config.invalid', `datastore.type: ${datastore.type}: ${problem}`, {
      field: 'datastore.type',
    })
  return {
    datastore,
    kubernetes,
    socket: flags.socket ?? `${modules.env.TWILL_RUN_DIR ?? file.runDir}/api.sock`,
    fenceMarginMs: file.fenceMargin,
    configFile: path,
  }
}

async function readConfig(path: string, mustExist: boolean, modules: Pick<CliModules, 'readFile'>) {
  let text: string
  try {
    text = await modules.readFile(path)
  } catch (error) {
    if (!mustExist && (error as NodeJS.ErrnoException).code === 'ENOENT')
      return configFile.parse({ datastore: { type: 'embedded' } })
    throw new TwillError('config.invalid', `${path}: cannot be read: ${messageOf(error)}`, { path })
  }
  const document = parseDocument(text, { prettyErrors: false })
  const [broken] = document.errors
  if (broken) throw new TwillError('config.invalid', `${path}: not YAML: ${broken.message}`, { path })
  const written = document.toJS() ?? {}
  const typed =
    typeof written === 'object' ? { ...written, datastore: withDatastoreType(written.datastore) } : written
  return validateOrThrow(configFile, typed, path, 'config.invalid')
}

function datastoreOf(
  flags: ConnectionFlags,
  env: CliModules['env'],
  fromFile: DatastoreSettings,
): DatastoreSettings {
  const [source, endpoints] = givenEndpoints(flags, env)
  const type = env.TWILL_DATASTORE_TYPE
  if (endpoints === null && type !== undefined && type !== fromFile.type)
    return validateOrThrow(datastoreSettings, { type }, 'TWILL_DATASTORE_TYPE', 'config.invalid')
  if (endpoints === null && fromFile.type !== 'etcd') return fromFile
  const prefix = env.TWILL_DATASTORE_PREFIX
  const wanted = {
    ...fromFile,
    type: 'etcd',
    ...(endpoints === null ? {} : { endpoints }),
    ...(prefix === undefined ? {} : { prefix }),
  }
  return validateOrThrow(datastoreSettings, wanted, source, 'config.invalid')
}

/** Who names a kubeconfig means Kubernetes. */
function kubernetesOf(
  flags: ConnectionFlags,
  env: CliModules['env'],
  fromFile: KubernetesSettings,
): KubernetesSettings {
  const { TWILL_KUBERNETES_ENABLED: enabled, TWILL_KUBERNETES_KUBECONFIG: variable } = env
  const named = flags.kubeconfig ?? (variable === 'null' ? undefined : variable)
  const wanted = {
    ...fromFile,
    ...(named === undefined ? {} : { kubeconfig: resolve(named) }),
    ...(enabled === undefined
      ? {}
      : { enabled: enabled === 'true' || (enabled === 'false' ? false : enabled) }),
    ...(flags.kubeconfig === undefined ? {} : { enabled: true }),
  }
  return validateOrThrow(kubernetesSettings, wanted, 'environment: kubernetes', 'config.invalid')
}

function givenEndpoints(flags: ConnectionFlags, env: CliModules['env']): [string, string[] | null] {
  const variable = env.TWILL_DATASTORE_ENDPOINTS
  const split = (texts: readonly string[]) => texts.flatMap(text => text.split(',').map(each => each.trim()))
  if (flags.etcdEndpoints !== undefined) return ['--etcd-endpoints', split(flags.etcdEndpoints)]
  return ['environment', variable ? split([variable]) : null]
}
