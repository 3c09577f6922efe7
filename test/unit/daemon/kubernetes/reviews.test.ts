/**
 * Rights and definitions that are missing: named in one message each, looked at again until somebody gives them; and what
 * status says of them.
 */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type { Status } from '../../../../daemon/api/types.ts'
import { reviewKubernetes } from '../../../../daemon/kubernetes/reviews.ts'
import { kubernetesConditions } from '../../../../daemon/status.ts'
import type { RequestOptions } from '../../../../datastore/kubernetes/client.ts'
import { refused, unavailable } from '../../../../datastore/kubernetes/failure.ts'
import { DAEMON_RIGHTS } from '../../../../datastore/kubernetes/rights.ts'
import { type Log, silentLog } from '../../../../lib/log.ts'
import { openApi } from '../../../fixtures/kubernetes/open-api.ts'
import { ManualClock, SeededRandom, settle } from '../../../fixtures/manual-clock.ts'

const asked = { verb: 'POST', path: '/reviews', server: 'https://scripted' }

interface Attributes {
  readonly verb: string
  readonly group: string
  readonly resource: string
}

/**
 * @param judge whether it is allowed; throws what the server answers otherwise
 * @param document what the server says of its definitions
 */
function setUp(judge: (attributes: Attributes) => boolean, document: () => object = openApi) {
  const told: string[] = []
  const clock = new ManualClock()
  const log: Log = {
    ...silentLog,
    error: (_, message) => told.push(message),
    info: (_, message) => told.push(message),
  }
  const requests = { POST: 0, GET: 0 }
  const client = {
    async request<T>(method: string, _path: string, { body }: RequestOptions = {}): Promise<T> {
      requests[method as 'POST' | 'GET']++
      if (method === 'GET') return document() as T
      const { spec } = body as { spec: { resourceAttributes: Attributes } }
      return { status: { allowed: judge(spec.resourceAttributes) } } as T
    },
  }
  const reviews = reviewKubernetes({ records: false }, { client, clock, random: new SeededRandom(7), log })
  return { ...reviews, clock, told: () => told.splice(0), requests }
}

test('each verb that is missing is named with its cost, all of them in one message, once; given, the asking ends', async () => {
  let given = false
  const { rights, clock, told, requests } = setUp(
    ({ verb, group, resource }) =>
      given || (group !== 'networking.k8s.io' && `${verb} ${resource}` !== 'watch pods'),
  )
  await settle()
  assert.equal(rights.missing, [
    'watch pods',
    'list networkpolicies.networking.k8s.io',
    'watch networkpolicies.networking.k8s.io',
  ])
  const [message, ...more] = told()
  assert.equal(more, [])
  assert.is(
    message,
    'the API server does not let this node watch pods (policies know no pods), list and watch networkpolicies.networking.k8s.io (no policy is known): the ClusterRole twill of deploy/manifests has all that is needed',
  )
  await clock.advance(31_000)
  assert.equal(told(), [])
  given = true
  await clock.advance(31_000)
  assert.equal(rights.missing, [])
  assert.equal(told(), ['no right at the API server is missing any more'])
  const before = requests.POST
  await clock.advance(600_000)
  assert.is(requests.POST, before)
})

test('rights that are taken away while the daemon runs are named soon after something was refused', async () => {
  let taken = false
  const { rights, clock, told, requests } = setUp(() => !taken)
  await settle()
  await clock.advance(60_000)
  assert.equal(rights.missing, [])
  taken = true
  rights.lookAnew()
  rights.lookAnew()
  await clock.advance(2_000)
  const all = DAEMON_RIGHTS.reduce((sum, { verbs }) => sum + verbs.length, 0)
  assert.equal([rights.missing.length, told().length, requests.POST], [all, 1, 2 * all])
  taken = false
  await clock.advance(31_000)
  assert.equal([rights.missing, told().length], [[], 1])
  taken = true
  rights.lookAnew()
  await clock.advance(2_000)
  assert.is(rights.missing.length, all, 'again')
})

test('what is refused for another reason costs a look now and then', async () => {
  const { rights, clock, requests } = setUp(() => true)
  await settle()
  const before = requests.POST
  for (let second = 0; second < 600; second++) {
    rights.lookAnew()
    await clock.advance(1_000)
  }
  assert.is(requests.POST, 3 * before)
  rights.stop()
  await clock.advance(600_000)
  rights.lookAnew()
  await clock.advance(10_000)
  assert.is(requests.POST, 3 * before, 'no more after the end')
})

test('a server that does not answer is asked one question, more and more seldom', async () => {
  let away = true
  const { rights, clock, requests } = setUp(() => {
    if (away) throw unavailable(asked, 'connection refused', false)
    return true
  })
  await settle()
  assert.is(requests.POST, 1)
  for (let minute = 0; minute < 5 * 60; minute++) await clock.advance(1_000)
  // Pauses of at most 0.5, 1, 2, 4, 8, 16 and then 30 s, and at least half of that.
  assert.ok(requests.POST > 10 && requests.POST < 28, `${requests.POST} requests in five minutes`)
  away = false
  await clock.advance(30_000)
  const verbs = DAEMON_RIGHTS.flatMap(right => right.verbs).length
  const { POST: whole } = requests
  assert.ok(whole > verbs)
  assert.equal(rights.missing, [])
  await clock.advance(60_000)
  assert.is(requests.POST, whole)
})

test('a server that refuses the question says nothing of rights', async () => {
  const { rights, clock, requests } = setUp(() => {
    throw refused(asked, 403, 'no', null)
  })
  await settle()
  const verbs = DAEMON_RIGHTS.flatMap(right => right.verbs).length
  assert.equal(rights.missing, [])
  await clock.advance(60_000)
  assert.is(requests.POST, verbs)
})

test('definitions: what is missing is told once, and that it has come; then nothing is asked any more', async () => {
  let served: object = openApi({ without: ['IPReservation'] })
  const { definitions, clock, told, requests } = setUp(
    () => true,
    () => served,
  )
  await settle()
  assert.equal(definitions.missing, ['ipreservations.twill.network is not there'])
  assert.equal(told(), [
    'definitions at the API server are missing or older than this daemon: ipreservations.twill.network is not there: kubectl apply -f deploy/crds',
  ])
  await clock.advance(31_000)
  assert.equal(told(), [])
  served = openApi()
  await clock.advance(31_000)
  assert.equal(definitions.missing, [])
  assert.equal(told(), ['nothing is missing in the definitions at the API server any more'])
  const before = requests.GET
  await clock.advance(600_000)
  assert.is(requests.GET, before)
})

test('status: missing rights are one condition; otherwise each problem of what is followed; definitions always', () => {
  const pods = { what: 'pods of this node', objects: 0, connected: false, problem: 'GET /api/v1/pods: 403' }
  const nodes = { what: 'nodes', objects: 2, connected: true, problem: null }
  const status = {
    ...{ server: 'https://a', connected: false, reason: null, requests: 3, watched: [pods, nodes] },
    ...{ missingRights: [], missingDefinitions: [] },
  }
  const messages = (kubernetes: Status['kubernetes']) =>
    kubernetesConditions(kubernetes).map(({ message }) => message)
  assert.equal(messages(status), ['pods of this node: GET /api/v1/pods: 403'])
  const [said, ...more] = messages({ ...status, missingRights: ['list pods'] })
  assert.match(said ?? '', /does not let this node list pods \(policies know no pods\): /)
  assert.equal(more, [])
  const away = { ...status, reason: 'connection refused' }
  assert.equal(messages(away), ['the API server at https://a: connection refused'])
  assert.equal(messages(null), [])
  const missingDefinitions = ['ippools.twill.network lacks spec.gateway']
  for (const each of [status, away, { ...status, missingRights: ['list pods'] }]) {
    const [first, second] = messages({ ...each, missingDefinitions })
    assert.is(first, messages(each)[0])
    assert.match(second ?? '', /ippools\.twill\.network lacks spec\.gateway: kubectl apply/)
  }
})

test.run()
