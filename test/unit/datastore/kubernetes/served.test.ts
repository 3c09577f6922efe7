/** The definitions that a server has against ours: what is missing is named, what it has besides is no fault. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { definitionsOf, missingInDefinitions } from '../../../../datastore/kubernetes/definitions/served.ts'
import { refused, unavailable } from '../../../../datastore/kubernetes/failure.ts'
import { type OpenApi, openApi } from '../../../fixtures/kubernetes/open-api.ts'

const definitions = definitionsOf({ records: true })
const POOL = 'network.twill.v1alpha1.IPPool'

/** @param answer may throw */
async function missing(answer: (path: string) => object, wanted = definitions): Promise<string[]> {
  const request = async (_: string, path: string) => answer(path) as never
  return await missingInDefinitions({ request }, wanted)
}

const asked = { verb: 'GET', path: '/openapi/v3', server: 'https://scripted' }

// biome-ignore lint/suspicious/noExplicitAny: schemas are taken apart as they come
function changed(change: (pool: any, document: any) => void): OpenApi {
  const document = openApi()
  change(document.components.schemas[POOL], document.components.schemas)
  return document
}

test('those of this version lack nothing, nor do newer ones', async () => {
  assert.equal(await missing(() => openApi()), [])
  const newer = changed(({ properties }, schemas) => {
    properties.spec.properties.later = { type: 'string' }
    schemas.Later = { type: 'object' }
  })
  assert.equal(await missing(() => newer), [])
})

test('each group is asked for once, that of records only where they are custom resources', async () => {
  const paths: string[] = []
  const answer = (path: string) => {
    paths.push(path)
    return openApi()
  }
  await missing(answer, definitionsOf({ records: false }))
  assert.equal(paths.splice(0), ['/openapi/v3/apis/twill.network/v1alpha1'])
  await missing(answer)
  assert.equal(paths, [
    '/openapi/v3/apis/twill.network/v1alpha1',
    '/openapi/v3/apis/records.twill.network/v1',
  ])
})

test('a group that is not served lacks each of its kinds; one kind that is not there is named', async () => {
  const all = await missing(() => {
    throw refused(asked, 404, 'not found', null)
  })
  assert.equal(
    all,
    definitions.map(({ metadata }) => `${metadata.name} is not there`),
  )
  assert.equal(await missing(() => openApi({ without: ['Slot'] })), [
    'slots.records.twill.network is not there',
  ])
})

test('fields, values and rules that an older one does not have are named, at every depth', async () => {
  let lastMode = ''
  const older = changed(({ properties }) => {
    const { spec } = properties
    spec['x-kubernetes-validations'].splice(0, 2)
    delete spec.properties.disabled
    lastMode = spec.properties.mode.enum.pop()
    delete spec.properties.nodeSelector.properties.matchExpressions.items.properties.values
    spec.properties.cidr['x-kubernetes-validations'].pop()
  })
  const [said, ...more] = await missing(() => older)
  assert.equal(more, [])
  const [name, ...lacks] = (said ?? '').split(/ lacks |, /)
  assert.is(name, 'ippools.twill.network')
  assert.equal(lacks.sort(), [
    '2 rules of spec',
    'a rule of spec.cidr',
    'spec.disabled',
    `spec.mode "${lastMode}"`,
    'spec.nodeSelector.matchExpressions[].values',
  ])
})

test('who may not look is told nothing; a server that does not answer is no answer', async () => {
  const forbidden = () => {
    throw refused(asked, 403, 'no', null)
  }
  assert.equal(await missing(forbidden), [])
  const away = missing(() => {
    throw unavailable(asked, 'connection refused', false)
  })
  assert.match(
    await away.then(
      () => '',
      error => error.code,
    ),
    /kubernetes\.unavailable/,
  )
})

test.run()
