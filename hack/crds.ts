/** Writes deploy/crds from the schemas, one file for each kind of resource and of record. `--check`: says which are out of date instead, and fails. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { stringify } from 'yaml'
import {
  CUSTOM_KINDS,
  type CustomResourceDefinition,
  definitionOf,
} from '../datastore/kubernetes/definitions/definitions.ts'
import { recordDefinitions } from '../datastore/kubernetes/definitions/records.ts'

const FOLDER = 'deploy/crds'
const HEADER = '# Generated from the schemas in datastore/resources by "npm run crds".\n'

/** File name → text. */
export const definitionFiles = (): ReadonlyMap<string, string> =>
  new Map(
    [...CUSTOM_KINDS.map(definitionOf), ...recordDefinitions()].map(definition => [
      fileName(definition),
      // What older parsers would take for a date or a truth value is quoted.
      HEADER + stringify(definition, { aliasDuplicateObjects: false, lineWidth: 120, compat: 'yaml-1.1' }),
    ]),
  )

/** ippools.twill.network → twill.network_ippools.yaml */
function fileName({ metadata }: CustomResourceDefinition): string {
  const [plural, ...group] = metadata.name.split('.')
  return `${group.join('.')}_${plural}.yaml`
}

/** Names of the files that say something else, or are not there. */
export const outdatedFiles = (files: ReadonlyMap<string, string>, folder: string): string[] =>
  [...files].flatMap(([name, text]) => (textOf(join(folder, name)) === text ? [] : [name]))

function textOf(path: string): string | null {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return null
  }
}

if (process.argv[1] === import.meta.filename) {
  const files = definitionFiles()
  const outdated = outdatedFiles(files, FOLDER)
  if (process.argv.includes('--check')) {
    for (const name of outdated) console.log(`${FOLDER}/${name} is out of date: run "npm run crds"`)
    console.log(`custom resource definitions: ${files.size} files, ${outdated.length} out of date`)
    process.exit(outdated.length > 0 ? 1 : 0)
  }
  mkdirSync(FOLDER, { recursive: true })
  for (const name of outdated) writeFileSync(join(FOLDER, name), files.get(name) as string)
  console.log(outdated.length === 0 ? `${FOLDER} is up to date` : `written: ${outdated.join(', ')}`)
}
