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
import { connectKubernetes, type KubernetesClient } from './kubernetes/client.ts'
import type { FollowedNamespaces } from './kubernetes/followed-watch.ts'
import { type ResourceStoreModules, RoutedStore, resourceStore } from './kubernetes/routed.ts'
import { kubernetesStore } from './kubernetes/store.ts'
import type { DatastoreSettings, EtcdSettings, KubernetesSettings } from './settings.ts'
import type { Store } from './store.ts'
import { tlsMistake } from './tls.ts'

export interface OpenModules {
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  readonly readFile: (path: string) => Promise<Buffer>
}

/** What a connection to an API server takes besides. */
export interface KubernetesModules {
  readonly environment: Readonly<Record<string, string | undefined>>
}

export interface FollowedKubernetes {
  readonly client: KubernetesClient
  /** null: nothing is followed. */
  readonly facts: FollowedNamespaces | null
}

export interface OpenDatastore {
  readonly store: Store
  /** Of the embedded store; null: others reach the datastore themselves. */
  readonly database: EmbeddedDatabase | null
  close(): Promise<void>
}

/**
 * The daemon's datastore. The embedded one is in the state folder, which the caller has locked. The client of the API
 * server, and what is followed with it, stay open when it is closed. null: this is no Kubernetes cluster.
 * @throws config.invalid as openEtcd; store.damaged, store.unavailable: the embedded one cannot be read
 */
export async function openDatastore(
  settings: DatastoreSettings,
  options: { readonly stateDir: string },
  modules: OpenModules & { readonly files: Files; readonly kubernetes: FollowedKubernetes | null },
): Promise<OpenDatastore> {
  const { kubernetes } = modules
  if (kubernetes === null) return openRecords(settings, options, modules)
  const records = settings.type === 'kubernetes' ? null : await openRecords(settings, options, modules)
  const store = routed(records?.store ?? null, { ...modules, ...kubernetes })
  const database = records?.database ?? null
  return { store, database, close: () => store.close().then(() => database?.close()) }
}

/**
 * The datastore of a Kubernetes cluster: resources at the API server, Twill's own records in `records`, or there too.
 * Over a connection of its own. @throws config.invalid: the kubeconfig
 */
export async function openKubernetes(
  settings: KubernetesSettings,
  records: Store | null,
  modules: OpenModules & KubernetesModules,
): Promise<Store> {
  const client = await connectKubernetes(settings, modules)
  return routed(records, { ...modules, client }, () => client.close())
}

function routed(records: Store | null, modules: ResourceStoreModules, onClosed = () => {}): Store {
  return new RoutedStore({
    records: records ?? kubernetesStore(modules),
    resources: resourceStore(modules),
    onClosed,
  })
}

async function openRecords(
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
