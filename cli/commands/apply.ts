/**
 * `apply -f FILE…`: every document of every file is checked before the first is written; then each is created,
 * brought up to date or left alone. One that the store refuses does not keep the others from being applied; a
 * store that is away ends the command.
 */
import { type LocatedResource, readDocuments, repeatedNames } from '../../datastore/resources/documents.ts'
import { isTwillError, messageOf, TwillError } from '../../lib/errors.ts'
import { applyResource } from '../resources.ts'
import type { Session } from '../session.ts'

/** What `-f -` is called in messages. */
const STDIN = 'standard input'

export async function apply(files: readonly string[], session: Session): Promise<number> {
  const documents = await readFiles(files, session)
  const store = await session.store()
  let code = 0
  for (const { resource, where } of documents) {
    const name = `${resource.kind} ${resource.metadata.name}`
    try {
      session.print(`${name} ${await applyResource(resource, { ...session.modules, store })}`)
    } catch (error) {
      if (isTwillError(error) && error.code.startsWith('store.') && error.code !== 'store.conflict')
        throw error
      const message = messageOf(error)
      session.complain(`${where}: ${message.startsWith(name) ? message : `${name}: ${message}`}`)
      code = 1
    }
  }
  return code
}

/** @throws document.invalid with every mistake of every file */
export async function readFiles(files: readonly string[], session: Session): Promise<LocatedResource[]> {
  const parsed = await Promise.all(files.map(file => readOne(file, session)))
  const resources = parsed.flatMap(file => file.resources)
  const mistakes = parsed.flatMap(file => file.problems)
  const problems = mistakes.length > 0 ? mistakes : repeatedNames(resources)
  if (problems.length > 0) throw new TwillError('document.invalid', problems.join('\n'), { lines: problems })
  return resources
}

async function readOne(file: string, session: Session) {
  const name = file === '-' ? STDIN : file
  try {
    return readDocuments(name, await session.modules.readFile(file))
  } catch (error) {
    return { resources: [], problems: [`${name}: cannot be read: ${messageOf(error)}`] }
  }
}
