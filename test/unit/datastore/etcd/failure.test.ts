import {
  castGrpcErrorMessage,
  EtcdPermissionDeniedError,
  GRPCDeadlineExceededError,
  GRPCInvalidArgumentError,
  GRPCOutOfRangeError,
  GRPCResourceExhastedError,
  GRPCUnavailableError,
  GRPCUnknownError,
} from 'etcd3'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { commitFailure, isTooLarge, readFailure } from '../../../../datastore/etcd/failure.ts'

const commit = (error: Error) => commitFailure(error, 'http://e', 'k')

test('what never left, or is refused before it is applied, was not made', () => {
  const certain = [
    new GRPCUnavailableError('14 UNAVAILABLE: No connection established. Last error: ECONNREFUSED'),
    new GRPCUnavailableError('14 UNAVAILABLE: Channel closed before call started'),
    new GRPCUnavailableError('14 UNAVAILABLE: Name resolution failed for target dns:nowhere'),
    new GRPCResourceExhastedError('8 RESOURCE_EXHAUSTED: etcdserver: too many requests'),
    new GRPCResourceExhastedError('8 RESOURCE_EXHAUSTED: grpc: received message larger than max (3 vs. 2)'),
    new GRPCInvalidArgumentError('3 INVALID_ARGUMENT: etcdserver: request is too large'),
    new EtcdPermissionDeniedError('7 PERMISSION_DENIED: etcdserver: permission denied'),
    castGrpcErrorMessage('etcdserver: invalid auth token'),
  ]
  for (const error of certain) assert.is(commit(error).code, 'store.unavailable', error.message)
})

test('everything else is in doubt, and may be tried again', () => {
  const doubtful = [
    new GRPCUnavailableError('14 UNAVAILABLE: Connection dropped'),
    new GRPCUnavailableError('14 UNAVAILABLE: etcdserver: request timed out'),
    new GRPCUnavailableError('14 UNAVAILABLE: words that nobody has used yet'),
    new GRPCDeadlineExceededError('4 DEADLINE_EXCEEDED: Deadline exceeded after 5.000s'),
    new GRPCResourceExhastedError('8 RESOURCE_EXHAUSTED: etcdserver: mvcc: database space exceeded'),
    new GRPCResourceExhastedError('8 RESOURCE_EXHAUSTED: Received message larger than max (9 vs 4)'),
    new GRPCUnknownError('2 UNKNOWN: '),
    new TypeError('something of ours'),
  ]
  for (const error of doubtful) {
    assert.is(commit(error).code, 'store.in-doubt', error.message)
    assert.ok(commit(error).retryable)
  }
})

test('only what may pass by itself is worth another try', () => {
  assert.not(
    commit(new GRPCInvalidArgumentError('3 INVALID_ARGUMENT: etcdserver: request is too large')).retryable,
  )
  assert.ok(commit(new GRPCUnavailableError('14 UNAVAILABLE: No connection established')).retryable)
  assert.is(readFailure(new GRPCOutOfRangeError('11'), 'http://e').code, 'store.unavailable')
})

test('a page that is too large for us is not a request that is too large for the server', () => {
  assert.ok(
    isTooLarge(
      new GRPCResourceExhastedError('8 RESOURCE_EXHAUSTED: Received message larger than max (9 vs 4)'),
    ),
  )
  assert.not(
    isTooLarge(
      new GRPCResourceExhastedError('8 RESOURCE_EXHAUSTED: grpc: received message larger than max (3 vs. 2)'),
    ),
  )
})

test.run()
