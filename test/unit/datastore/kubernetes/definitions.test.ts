/** Custom resource definitions: nothing of a schema is lost in silence, and the files say what the schemas say. */
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { z } from 'zod'
import { structuralSchema } from '../../../../datastore/kubernetes/definitions/schema.ts'
import { definitionFiles, outdatedFiles } from '../../../../hack/crds.ts'

const schemaOf = (type: z.ZodType) => z.toJSONSchema(type, { target: 'openapi-3.0', io: 'input' })

test('types, defaults and bounds stay; what zod says of unknown fields and safe integers goes', () => {
  const type = z.strictObject({
    n: z.number().int(),
    few: z.number().int().min(1).max(3),
    list: z.array(z.string()).max(2).default(['a']),
    map: z.record(z.string(), z.string().regex(/^a/)),
  })
  assert.equal(structuralSchema(schemaOf(type), {}), {
    type: 'object',
    required: ['n', 'few', 'map'],
    properties: {
      n: { type: 'integer' },
      few: { type: 'integer', minimum: 1, maximum: 3 },
      list: { type: 'array', default: ['a'], maxItems: 2, items: { type: 'string' } },
      map: { type: 'object', additionalProperties: { type: 'string', pattern: '^a' } },
    },
  })
})

test('additions go to their field, also in lists and maps', () => {
  const type = z.object({ list: z.array(z.object({ a: z.string() })), map: z.record(z.string(), z.string()) })
  const rules = [{ rule: 'self.a != ""', message: 'expected text' }]
  const { properties } = structuralSchema(schemaOf(type), {
    'list[]': { rules },
    'list[].a': { maxLength: 5 },
    'map{}': { maxLength: 6 },
    map: { maxProperties: 7 },
    list: { listType: 'set' },
  })
  assert.is(properties?.list?.['x-kubernetes-list-type'], 'set')
  assert.equal(properties?.list?.items?.['x-kubernetes-validations'], rules)
  assert.is(properties?.list?.items?.properties?.a?.maxLength, 5)
  assert.is(properties?.map?.additionalProperties?.maxLength, 6)
  assert.is(properties?.map?.maxProperties, 7)
})

test('what no structural schema may say is an error, and so is a rule of a field that is not there', () => {
  const union = z.object({ a: z.union([z.string(), z.number()]) })
  assert.throws(() => structuralSchema(schemaOf(union), {}), /a: anyOf: not in a structural schema/)
  const plain = schemaOf(z.object({ a: z.string() }))
  assert.throws(() => structuralSchema(plain, { b: { maxLength: 1 } }), /b: no such field/)
})

test('deploy/crds says what the schemas say', () => {
  const files = definitionFiles()
  assert.equal(outdatedFiles(files, 'deploy/crds'), [])
  assert.equal([...files.keys()].sort(), readdirSync('deploy/crds').sort())
})

test('a file that is missing or says something else is out of date', () => {
  const folder = mkdtempSync(join(tmpdir(), 'twill-crds-'))
  const files = new Map([
    ['a.yaml', 'a'],
    ['b.yaml', 'b'],
    ['c.yaml', 'c'],
  ])
  writeFileSync(join(folder, 'a.yaml'), 'a')
  writeFileSync(join(folder, 'b.yaml'), 'other')
  assert.equal(outdatedFiles(files, folder), ['b.yaml', 'c.yaml'])
  rmSync(folder, { recursive: true })
})

test.run()
