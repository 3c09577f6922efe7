/** Resources as documents: YAML that `apply` takes back, JSON for programs. */
import { stringify } from 'yaml'

/** One YAML document for each, separated by `---`. */
export function renderYaml(documents: readonly object[]): string {
  return documents.map(document => stringify(document, { lineWidth: 0 })).join('---\n')
}

export function renderJson(value: unknown): string {
  return `${JSON.stringify(value, null, 2)}\n`
}
