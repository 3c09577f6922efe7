/** Missing rights: named in one message, asked for again until somebody gives them; and what status says of them. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type { Status } from '../../../../daemon/api/types.ts'
import { RightsReview } from '../../../../daemon/kubernetes/rights-review.ts'
import { kubernetesConditions } from '../../../../daemon/status.ts'
import type { RequestOptions } from '../../../../datastore/kubernetes/client.ts'
import { refused, unavailable } from '../../../../datastore/kubernetes/failure.ts'
import { DAEMON_RIGHTS } from '../../../../datastore/kubernetes/rights.ts'
import { type Log, silentLog } from '../../../../lib/log.ts'
import { ManualClock, settle } from '../../../fixtures/manual-clock.ts'

const asked = { verb: 'POST', path: '/reviews', server: 'https://scripted' }

interface Attributes {
  readonly verb: string
  readonly group: string
  readonly resource: string
}

/** @param judge whether it is allowed; throws what the server answers otherwise */
function setUp(judge: (attributes: Attributes) => boolean) {
  const told: string[] = []
  const clock = new ManualClock()
  const log: Log = {
    ...silentLog,
    error: (_, message) => told.push(message),
    info: (_, message) => told.push(message),
  }
  let requests = 0
  const client = {
    async request<T>(_method: string, _path: string, { body }: RequestOptions = {}): Promise<T> {
      requests++
      const { spec } = body as { spec: { resourceAttributes: Attributes } }
      return { status: { allowed: judge(spec.resourceAttributes) } } as T
    },
  }
  const review = new RightsReview({ client, clock, log })
  return { review, clock, told: () => told.splice(0), requests: () => requests }
}

test('each verb that is missing is named, all of them in one message, once; given, the asking ends', async () => {
  let given = false
  const { review, clock, told, requests } = setUp(
    ({ verb, group, resource }) =>
      given || (group !== 'networking.k8s.io' && `${verb} ${resource}` !== 'watch pods'),
  )
  await settle()
  const missing = [
    'watch pods',
    'list networkpolicies.networking.k8s.io',
    'watch networkpolicies.networking.k8s.io',
  ]
  assert.equal(review.missing, missing)
  const [message, ...more] = told()
  assert.equal(more, [])
  assert.is(
    message,
    `the API server does not let this node ${missing.join(', ')}: the ClusterRole twill of deploy/manifests has all that is needed`,
  )
  await clock.advance(31_000)
  assert.equal(told(), [])
  given = true
  await clock.advance(31_000)
  assert.equal(review.missing, [])
  assert.equal(told(), ['no right at the API server is missing any more'])
  const before = requests()
  await clock.advance(600_000)
  assert.is(requests(), before)
})

test('a server that does not answer is asked again; one that refuses the question is no missing right', async () => {
  let away = true
  const { review, clock, requests } = setUp(() => {
    if (away) throw unavailable(asked, 'connection refused', false)
    throw refused(asked, 403, 'no', null)
  })
  await settle()
  const verbs = DAEMON_RIGHTS.flatMap(right => right.verbs).length
  assert.is(requests(), verbs)
  away = false
  await clock.advance(2_000)
  assert.is(requests(), 2 * verbs)
  assert.equal(review.missing, [])
  await clock.advance(60_000)
  assert.is(requests(), 2 * verbs)
})

test('status: missing rights are one condition; otherwise each problem of what is followed', () => {
  const pods = { what: 'pods of this node', objects: 0, connected: false, problem: 'GET /api/v1/pods: 403' }
  const nodes = { what: 'nodes', objects: 2, connected: true, problem: null }
  const status = { server: 'https://a', connected: false, reason: null, requests: 3, watched: [pods, nodes] }
  const messages = (kubernetes: Status['kubernetes']) =>
    kubernetesConditions(kubernetes).map(({ message }) => message)
  assert.equal(messages({ ...status, missingRights: [] }), ['pods of this node: GET /api/v1/pods: 403'])
  const [said, ...more] = messages({ ...status, missingRights: ['list pods'] })
  assert.match(said ?? '', /does not let this node list pods: /)
  assert.equal(more, [])
  const away = { ...status, reason: 'connection refused', missingRights: [] }
  assert.equal(messages(away), ['the API server at https://a: connection refused'])
  assert.equal(messages(null), [])
})

test.run()
