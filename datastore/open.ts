/** Settings, as an operator writes them, to a store: reads the files they name. */
import type { Clock, Random } from '../lib/clock.ts'
import { messageOf, TwillError } from '../lib/errors.ts'
import type { Log } from '../lib/log.ts'
import type { EtcdOptions } from './etcd/options.ts'
import { EtcdStore } from './etcd/store.ts'
import type { DatastoreSettings } from './settings.ts'

export interface OpenModules {
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  readonly readFile: (path: string) => Promise<Buffer>
}

/** Connects at the first call. @throws config.invalid: a file cannot be read, or half of a pair is missing */
export async function openDatastore(settings: DatastoreSettings, modules: OpenModules): Promise<EtcdStore> {
  return new EtcdStore(await etcdOptionsOf(settings, modules), modules)
}

export async function etcdOptionsOf(
  settings: DatastoreSettings,
  modules: Pick<OpenModules, 'readFile'>,
): Promise<EtcdOptions> {
  const { endpoints, prefix } = settings
  const [tls, auth] = [await tlsOf(settings, modules), await authOf(settings, modules)]
  return { endpoints, prefix, ...(tls ? { tls } : {}), ...(auth ? { auth } : {}) }
}

async function tlsOf({ tls }: DatastoreSettings, modules: Pick<OpenModules, 'readFile'>) {
  if (tls === undefined) return null
  if ((tls.cert === undefined) !== (tls.key === undefined))
    throw refuse(
      tls.cert === undefined ? 'tls.cert' : 'tls.key',
      'missing: expected both cert and key, or neither',
    )
  const ca = await read('tls.ca', tls.ca, modules)
  if (tls.cert === undefined || tls.key === undefined) return { ca }
  return {
    ca,
    cert: await read('tls.cert', tls.cert, modules),
    key: await read('tls.key', tls.key, modules),
  }
}

async function authOf(settings: DatastoreSettings, modules: Pick<OpenModules, 'readFile'>) {
  const { username, passwordFile } = settings
  if (username === undefined && passwordFile === undefined) return null
  if (username === undefined || passwordFile === undefined)
    throw refuse(
      username === undefined ? 'username' : 'passwordFile',
      'missing: expected both username and passwordFile, or neither',
    )
  const password = (await read('passwordFile', passwordFile, modules)).toString('utf8')
  return { username, password: password.replace(/\r?\n$/, '') }
}

async function read(field: string, path: string, modules: Pick<OpenModules, 'readFile'>): Promise<Buffer> {
  try {
    return await modules.readFile(path)
  } catch (error) {
    throw refuse(field, `${JSON.stringify(path)}: expected a readable file: ${messageOf(error)}`)
  }
}

function refuse(field: string, message: string): TwillError {
  return new TwillError('config.invalid', `datastore.${field}: ${message}`, { field: `datastore.${field}` })
}
