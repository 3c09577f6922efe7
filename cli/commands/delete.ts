/** `delete KIND NAME…` and `delete -f FILE…`: one after the other; what is not there is an error. */
import { resourceKey } from '../../datastore/keys.ts'
import { kindOf, type Resource, type ResourceKind } from '../../datastore/resources/kinds.ts'
import { changeRecord, KEEP } from '../../ipam/change-record.ts'
import { deletePool, keepPool } from '../../ipam/pool-removal.ts'
import { inUseText, leftText } from '../../ipam/pool-users.ts'
import { minutesUntilFree } from '../../ipam/removal.ts'
import { isTwillError, messageOf, TwillError } from '../../lib/errors.ts'
import { counted } from '../../lib/plural.ts'
import { readNames } from '../address-map.ts'
import { removeNode } from '../node-removal.ts'
import { notFound, parseStored } from '../resources.ts'
import type { Session } from '../session.ts'
import { readFiles } from './apply.ts'

export interface Named {
  readonly kind: ResourceKind
  readonly name: string
}

export interface DeleteOptions {
  /** Close pools that are in use instead of refusing. */
  readonly drain: boolean
  /** Open pools again whose deletion waits for their last address. */
  readonly cancel: boolean
}

export async function deleteFiles(
  files: readonly string[],
  options: DeleteOptions,
  session: Session,
): Promise<number> {
  const documents = await readFiles(files, session)
  const named = documents.map(({ resource }) => ({ kind: kindOf(resource), name: resource.metadata.name }))
  return deleteResources(named, options, session)
}

export async function deleteResources(
  resources: readonly Named[],
  options: DeleteOptions,
  session: Session,
): Promise<number> {
  await session.store()
  let code = 0
  for (const resource of resources) {
    try {
      session.print(await deleteOne(resource, options, session))
    } catch (error) {
      const away = isTwillError(error, 'store.unavailable') || isTwillError(error, 'store.in-doubt')
      if (away || !isTwillError(error)) throw error
      session.complain(messageOf(error))
      code = 1
    }
  }
  return code
}

function deleteOne(resource: Named, options: DeleteOptions, session: Session): Promise<string> {
  if (options.cancel) return keepIPPool(resource, session)
  switch (resource.kind.kind) {
    case 'Node':
      return deleteNode(resource, session)
    case 'IPPool':
      return deleteIPPool(resource, options, session)
    case 'IPReservation':
    case 'Namespace':
      return deletePlain(resource, session)
  }
}

/** @throws resource.not-found; store.* */
async function deletePlain({ kind, name }: Named, session: Session): Promise<string> {
  if (!(await deleteResource(kind, name, session))) throw notFound(kind, name)
  return `${kind.kind} ${name} deleted`
}

/** @throws resource.not-found; resource.in-use, also when it is closed and not yet empty; store.* */
async function deleteIPPool(
  { kind, name }: Named,
  options: DeleteOptions,
  session: Session,
): Promise<string> {
  const store = await session.store()
  const deletion = await deletePool(name, options, { store, clock: session.modules.clock }).catch(error => {
    throw isTwillError(error, 'resource.not-found') ? notFound(kind, name) : error
  })
  if (deletion.removed) return `IPPool ${name} deleted`
  const names = await readNames(store, line => session.warn(line))
  const nameOf = ({ uid }: { readonly uid: string }) => names.get(uid) ?? uid
  const users = [...deletion.users].sort((a, b) => nameOf(a).localeCompare(nameOf(b)))
  const message = deletion.closed
    ? `IPPool ${name}: closed, and not empty yet: ${leftText(users, names)}. Run this again when that has gone, or with --cancel to keep the pool`
    : `IPPool ${name} is in use and stays as it was: ${inUseText(users, names)}. With --drain it hands out nothing more and goes when it is empty`
  throw new TwillError('resource.in-use', message, {
    kind: 'IPPool',
    name,
    owners: users.map(({ uid }) => uid),
  })
}

/** @throws resource.not-found; document.invalid: no pool; store.* */
async function keepIPPool({ kind, name }: Named, session: Session): Promise<string> {
  if (kind.kind !== 'IPPool')
    throw new TwillError('document.invalid', `${kind.kind} ${name}: --cancel: expected an IPPool`, { name })
  const wasClosed = await keepPool(name, { store: await session.store() }).catch(error => {
    throw isTwillError(error, 'resource.not-found') ? notFound(kind, name) : error
  })
  return wasClosed ? `IPPool ${name} open again` : `IPPool ${name} unchanged: it was not being deleted`
}

/** @throws resource.not-found, resource.in-use: it lives; store.* */
async function deleteNode({ kind, name }: Named, session: Session): Promise<string> {
  const store = await session.store()
  const { env, clock, random } = session.modules
  const by = `twillctl (${env.SUDO_USER ?? env.USER ?? 'unknown user'})`
  const removal = await removeNode(name, by, { store, clock, random, note: line => session.note(line) })
  // Of Kubernetes' own objects kubectl disposes.
  const hadResource = !session.settings.kubernetes.enabled && (await deleteResource(kind, name, session))
  if (!removal.known && !hadResource) throw notFound(kind, name)
  if (removal.fencedParts === 0) return `Node ${name} deleted`
  const minutes = minutesUntilFree(removal.allowanceMs, session.settings.fenceMarginMs)
  const verbs = removal.fencedParts === 1 ? 'is fenced and becomes' : 'are fenced and become'
  return `Node ${name} deleted: its ${counted(removal.fencedParts, 'part')} ${verbs} free after ${minutes} min`
}

/** Whether there was one. */
async function deleteResource(kind: ResourceKind, name: string, session: Session): Promise<boolean> {
  let seen = false
  await changeRecord<Resource>(await session.store(), {
    key: resourceKey(kind.plural, name),
    parse: (text, key) => parseStored(kind, text, key),
    step: current => {
      seen ||= current !== null
      return current === null ? KEEP : null
    },
  })
  return seen
}
