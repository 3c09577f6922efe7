/** What daemons write into the status of pools is written once, whatever the server makes of it. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { ResourceStatus } from '../../../../daemon/kubernetes/resource-status.ts'
import type { RequestOptions } from '../../../../datastore/kubernetes/client.ts'
import { MemoryCluster } from '../../../../datastore/memory/cluster.ts'
import { MemoryStore } from '../../../../datastore/memory/store.ts'
import type { IPPool } from '../../../../datastore/resources/ippool.ts'
import { createPool } from '../../../../ipam/pools.ts'
import { silentLog } from '../../../../lib/log.ts'
import { object, page } from '../../../fixtures/kubernetes/scripted-client.ts'
import { ManualClock } from '../../../fixtures/manual-clock.ts'

const test = suite('status of resources')
const EVERY_MS = 3_000

/** An API server with one pool, whose definitions may lack `status.inForce`: it drops that in silence. */
async function setUp() {
  const clock = new ManualClock()
  const store = new MemoryStore({}, { cluster: new MemoryCluster(), clock })
  const random = { fraction: () => 0, hex: () => '', uuid: () => 'uid-new' }
  const document = { apiVersion: 'twill.network/v1alpha1', kind: 'IPPool', metadata: { name: 'x' } } as const
  await createPool({ ...document, spec: { cidr: '10.9.0.0/16' } } as IPPool, { store, clock, random })
  const server = {
    isOlder: true,
    patches: 0,
    spec: { cidr: '10.9.0.0/16' } as Record<string, unknown>,
    status: {} as Record<string, unknown>,
    annotations: {} as Record<string, string>,
  }
  const pool = () => {
    const { metadata, ...rest } = object('x', 7, { spec: server.spec, status: server.status })
    return { ...rest, metadata: { ...metadata, annotations: server.annotations } }
  }
  const client = {
    async request(method: string, path: string, { body }: RequestOptions = {}) {
      if (method === 'GET') return page(10, path.endsWith('/ippools') ? [pool()] : []) as never
      server.patches++
      const { inForce, ...rest } = (body as { status: Record<string, unknown> }).status
      const kept = server.isOlder || inForce === undefined ? {} : { inForce }
      server.status = { ...server.status, ...rest, ...kept }
      return pool() as never
    },
  }
  const telling = new ResourceStatus(
    { everyMs: EVERY_MS },
    { client, store, clock, random, log: silentLog, vitals: () => [], nodes: () => [] },
  )
  telling.start()
  return { clock, server, telling }
}

test('definitions that are older than inForce: it is sent once, again when it changes, and now and then', async () => {
  const { clock, server, telling } = await setUp()
  await clock.advance(3 * EVERY_MS)
  assert.is(server.patches, 1)
  assert.ok(Array.isArray(server.status.conditions))
  await clock.advance(20 * EVERY_MS)
  assert.is(server.patches, 1)
  server.spec = { ...server.spec, blockSize: 27 }
  await clock.advance(20 * EVERY_MS)
  assert.is(server.patches, 2)
  server.isOlder = false
  await clock.advance(11 * 60_000)
  assert.is(server.patches, 3)
  assert.is((server.status.inForce as { blockSize: number }).blockSize, 27)
  await clock.advance(11 * 60_000)
  assert.is(server.patches, 3)
  await telling.stop()
})

test('an annotation of our domain that nobody reads is named in a condition until it goes, and nothing is refused', async () => {
  const { clock, server, telling } = await setUp()
  server.isOlder = false
  server.annotations = { 'twill.network/ipv4-pools': 'a', 'example.com/x': 'y' }
  await clock.advance(2 * EVERY_MS)
  const conditions = () => server.status.conditions as Record<string, string>[]
  assert.equal(
    conditions().map(({ type, status }) => `${type} ${status}`),
    ['Accepted Unknown', 'AnnotationsIgnored True'],
  )
  assert.is(
    conditions()[1]?.message,
    'metadata.annotations.twill.network/ipv4-pools: "a": unknown annotation, expected none here',
  )
  const { patches } = server
  await clock.advance(5 * EVERY_MS)
  assert.is(server.patches, patches)
  server.annotations = Object.fromEntries(Array.from({ length: 40 }, (_, i) => [`twill.network/x${i}`, '']))
  await clock.advance(2 * EVERY_MS)
  assert.match(conditions()[1]?.message ?? '', /x9: .*; and 30 more$/)
  server.annotations = {}
  await clock.advance(2 * EVERY_MS)
  assert.equal(
    conditions().map(({ type }) => type),
    ['Accepted'],
  )
  await telling.stop()
})

test.run()
