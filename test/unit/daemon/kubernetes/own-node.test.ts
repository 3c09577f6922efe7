/** Patches of the Node object: what they change, and what they leave to others. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import {
  conditionPatch,
  nodeStands,
  ownNodeOf,
  STARTUP_TAINT,
  taintPatch,
} from '../../../../daemon/kubernetes/own-node.ts'
import { refused } from '../../../../datastore/kubernetes/failure.ts'
import type { TwillError } from '../../../../lib/errors.ts'
import { ScriptedClient } from '../../../fixtures/kubernetes/scripted-client.ts'

const NOW = '2026-01-02T03:04:05.678Z'
const EARLIER = '2025-12-31T00:00:00Z'
const UP = { status: 'False', reason: 'TwillIsUp', message: 'm' } as const

const patched = (current: Parameters<typeof conditionPatch>[0]) =>
  (conditionPatch(current, UP, NOW) as { status: { conditions: object[] } } | null)?.status.conditions

test('the startup taint goes with every effect; others stand in both halves of the patch as they are', () => {
  const other = { key: 'a/b', effect: 'NoExecute', value: 'v', timeAdded: NOW }
  const ours = [
    { key: STARTUP_TAINT, effect: 'NoExecute' },
    { key: STARTUP_TAINT, effect: 'NoSchedule' },
  ]
  assert.equal(taintPatch([ours[0]!, other, ours[1]!]), [
    { op: 'test', path: '/spec/taints', value: [ours[0], other, ours[1]] },
    { op: 'replace', path: '/spec/taints', value: [other] },
  ])
  assert.is(taintPatch([other]), null)
  assert.is(taintPatch([]), null)
})

test('the condition is written when status or reason differ; the time of transition only with the status', () => {
  const type = 'NetworkUnavailable'
  const condition = { type, ...UP, lastHeartbeatTime: NOW }
  assert.equal(patched(null), [{ ...condition, lastTransitionTime: NOW }])
  const standing = {
    type,
    status: 'False',
    reason: 'TwillIsUp',
    message: 'another',
    lastTransitionTime: EARLIER,
  }
  assert.is(patched(standing), undefined)
  assert.equal(patched({ ...standing, reason: 'RouteCreated' }), [
    { ...condition, lastTransitionTime: EARLIER },
  ])
  assert.equal(patched({ ...standing, status: 'True' }), [{ ...condition, lastTransitionTime: NOW }])
})

test('a Node object that says nothing yet', () => {
  const metadata = { name: 'n', uid: 'u', resourceVersion: '1' }
  const nothing = { uid: 'u', taints: [], networkUnavailable: null, podCidrs: [] }
  assert.equal(ownNodeOf({ metadata }), nothing)
  assert.equal(
    ownNodeOf({ metadata, spec: {}, status: { conditions: [{ type: 'Ready', status: 'True' }] } }),
    nothing,
  )
  assert.equal(ownNodeOf({ metadata, spec: { podCIDRs: ['10.1.0.0/24', 'fd00::/80'] } }).podCidrs, [
    '10.1.0.0/24',
    'fd00::/80',
  ])
})

test('a Node is gone when the API server says so, and by no 404 of another', async () => {
  const answered = (status: number, body: string | object) => {
    const client = new ScriptedClient()
    const standing = nodeStands('n1', client, new AbortController().signal)
    client.fail(refused({ verb: 'GET', path: '/n1', server: 's' }, status, body, null))
    return standing.catch((error: TwillError) => error.code)
  }
  const absent = { kind: 'Status', reason: 'NotFound', message: 'nodes "n1" not found' }
  assert.is(await answered(404, absent), false)
  assert.is(await answered(404, JSON.stringify(absent)), false)
  // Of a server that has no such path, and of a balancer without a server.
  assert.is(await answered(404, '404 page not found\n'), 'kubernetes.not-found')
  assert.is(await answered(404, '<html>default backend</html>'), 'kubernetes.not-found')
})

test.run()
