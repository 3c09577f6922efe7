/** `delete KIND NAME…` and `delete -f FILE…`: one after the other; what is not there is an error. */
import { resourceKey } from '../../datastore/keys.ts'
import { kindOf, type Resource, type ResourceKind } from '../../datastore/resources/kinds.ts'
import { changeRecord, KEEP } from '../../ipam/change-record.ts'
import { deletePool } from '../../ipam/pool-removal.ts'
import { minutesUntilFree } from '../../ipam/removal.ts'
import { isTwillError, messageOf, TwillError } from '../../lib/errors.ts'
import { counted } from '../../lib/plural.ts'
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
  const modules = { store: await session.store(), clock: session.modules.clock }
  const deletion = await deletePool(name, options, modules).catch(error => {
    throw isTwillError(error, 'resource.not-found') ? notFound(kind, name) : error
  })
  if (deletion.removed) return `IPPool ${name} deleted`
  const owners = deletion.owners.join(', ')
  throw new TwillError(
    'resource.in-use',
    `IPPool ${name}: closed, but ${deletion.parts} parts still belong to nodes (${owners}): run this again once they have let go`,
    { kind: 'IPPool', name, owners: deletion.owners },
  )
}

/** @throws resource.not-found, resource.in-use: it lives; store.* */
async function deleteNode({ kind, name }: Named, session: Session): Promise<string> {
  const store = await session.store()
  const { env, clock, random } = session.modules
  const by = `twillctl (${env.SUDO_USER ?? env.USER ?? 'unknown user'})`
  const removal = await removeNode(name, by, { store, clock, random, note: line => session.note(line) })
  const hadResource = await deleteResource(kind, name, session)
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
