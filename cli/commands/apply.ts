/**
 * `apply -f FILE…`: every document of every file is checked, by itself and against what is stored, before the first is
 * written; then each is created, brought up to date or left alone. What is refused after all, because somebody else
 * wrote in between, does not keep the others from being applied; a store that is away ends the command.
 */
import { type LocatedResource, readDocuments, type SourceFile } from '../../datastore/resources/documents.ts'
import { isTwillError, messageOf, TwillError } from '../../lib/errors.ts'
import { refusals, refusalText } from '../refusals.ts'
import { applyResource } from '../resources.ts'
import type { Session } from '../session.ts'

/** What `-f -` is called in messages. */
const STDIN = 'standard input'

export async function apply(files: readonly string[], session: Session): Promise<number> {
  const documents = await readFiles(files, session)
  const store = await session.store()
  const problems = await refusals(documents, store)
  if (problems.length > 0) throw mistakes(problems)
  let code = 0
  for (const { resource, where } of documents) {
    const name = `${resource.kind} ${resource.metadata.name}`
    try {
      session.print(`${name} ${await applyResource(resource, { ...session.modules, store })}`)
    } catch (error) {
      if (isTwillError(error) && error.code.startsWith('store.') && error.code !== 'store.conflict')
        throw error
      session.complain(refusalText(where, name, messageOf(error)))
      code = 1
    }
  }
  return code
}

/** @throws document.invalid with every mistake of every file */
export async function readFiles(files: readonly string[], session: Session): Promise<LocatedResource[]> {
  const sources = await Promise.all(files.map(file => readOne(file, session)))
  const { resources, problems } = readDocuments(sources)
  if (problems.length > 0) throw mistakes(problems)
  return [...resources]
}

const mistakes = (lines: readonly string[]) => new TwillError('document.invalid', lines.join('\n'), { lines })

async function readOne(file: string, session: Session): Promise<SourceFile> {
  const name = file === '-' ? STDIN : file
  try {
    return { name, text: await session.modules.readFile(file) }
  } catch (error) {
    return { name, failure: messageOf(error) }
  }
}
