/** Every resource that docs/resources.md shows is one that apply takes, and the table of a pool's fields is complete. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { readDocuments } from '../../../../datastore/resources/documents.ts'
import { ipPoolSpec } from '../../../../datastore/resources/ippool.ts'
import { KINDS } from '../../../../datastore/resources/kinds.ts'

const page = readFileSync(join(import.meta.dirname, '../../../../docs/resources.md'), 'utf8')
const examples = [...page.matchAll(/```yaml\n([\s\S]*?)```/g)].map(match => match[1] ?? '')

test('the examples are valid, one of each kind', () => {
  const parsed = examples.map((text, index) => readDocuments([{ name: `example ${index + 1}`, text }]))
  assert.equal(
    parsed.flatMap(({ problems }) => problems),
    [],
  )
  const kinds = parsed.flatMap(({ resources }) => resources.map(({ resource }) => resource.kind))
  assert.equal([...kinds].sort(), KINDS.map(kind => kind.kind).sort())
})

test('every field of a pool is documented', () => {
  for (const field of Object.keys(ipPoolSpec.shape)) assert.match(page, `| \`${field}\` |`)
})

test.run()
