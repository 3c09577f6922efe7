/** Settings, as an operator writes them, to a store: reads the files they name. */
import { join } from 'node:path'
import type { Clock, Random } from '../lib/clock.ts'
import { messageOf, TwillError } from '../lib/errors.ts'
import type { Log } from '../lib/log.ts'
import { EmbeddedDatabase } from './embedded/database.ts'
import type { Files } from './embedded/log.ts'
import { EmbeddedStore } from './embedded/store.ts'
import type { EtcdOptions } from './etcd/options.ts'
import { EtcdStore } from './etcd/store.ts'
import type { DatastoreSettings, EtcdSettings } from './settings.ts'
import type { Store } from './store.ts'
import { tlsMistake } from './tls.ts'

export interface OpenModules {
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  readonly readFile: (path: string) => Promise<Buffer>
}

export interface OpenDatastore {
  readonly store: Store
  /** Of the embedded store; null: others reach the datastore themselves. */
  readonly database: EmbeddedDatabase | null
  close(): Promise<void>
}

/**
 * The daemon's datastore. The embedded one is in the state folder, which the caller has locked.
 * @throws config.invalid as openEtcd; store.damaged, store.unavailable: the embedded one cannot be read
 */
export async function openDatastore(
  settings: DatastoreSettings,
  options: { readonly stateDir: string },
  modules: OpenModules & { readonly files: Files },
): Promise<OpenDatastore> {
  if (settings.type === 'etcd') {
    const store = await openEtcd(settings, modules)
    return { store, database: null, close: () => store.close() }
  }
  const database = await EmbeddedDatabase.open({ path: join(options.stateDir, 'datastore') }, modules)
  const store = new EmbeddedStore({ database, clock: modules.clock })
  return { store, database, close: () => store.close().then(() => database.close()) }
}

/** Connects at the first call. @throws config.invalid: a file cannot be read, or half of a pair is missing */
export async function openEtcd(settings: EtcdSettings, modules: OpenModules): Promise<EtcdStore> {
  return new EtcdStore(await etcdOptionsOf(settings, modules), modules)
}

export async function etcdOptionsOf(
  settings: EtcdSettings,
  modules: Pick<OpenModules, 'readFile'>,
): Promise<EtcdOptions> {
  const { endpoints, prefix } = settings
  const [tls, auth] = [await tlsOf(settings, modules), await authOf(settings, modules)]
  return { endpoints, prefix, ...(tls ? { tls } : {}), ...(auth ? { auth } : {}) }
}

async function tlsOf({ tls }: EtcdSettings, modules: Pick<OpenModules, 'readFile'>) {
  if (tls === undefined) return null
  if ((tls.cert === undefined) !== (tls.key === undefined))
    throw refuse(
      tls.cert === undefined ? 'tls.cert' : 'tls.key',
      'missing: expected both cert and key, or neither',
    )
  const ca = await read('tls.ca', tls.ca, modules)
  const pair =
    tls.cert === undefined || tls.key === undefined
      ? {}
      : {
          cert: await read('tls.cert', tls.cert, modules),
          key: await read('tls.key', tls.key, modules),
        }
  const material = { ca, ...pair }
  const mistake = tlsMistake(material)
  if (mistake !== null)
    throw refuse(`tls.${mistake.field}`, `${JSON.stringify(tls[mistake.field])}: ${mistake.message}`)
  return material
}

async function authOf(settings: EtcdSettings, modules: Pick<OpenModules, 'readFile'>) {
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
