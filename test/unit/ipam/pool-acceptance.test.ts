/** What is said of a pool, from its document and the address space. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type { IPPool } from '../../../datastore/resources/ippool.ts'
import { emptySpace, entryOf, type PoolEntry } from '../../../ipam/address-space.ts'
import { underlaysOf } from '../../../ipam/covered.ts'
import { acceptanceOf } from '../../../ipam/pool-acceptance.ts'

const pool = (name: string, cidr: string, uid?: string): IPPool => ({
  apiVersion: 'twill.network/v1alpha1',
  kind: 'IPPool',
  metadata: { name, ...(uid === undefined ? {} : { uid }) },
  spec: { cidr, natOutgoing: true, disabled: false, allowedUses: ['pod', 'tunnel'] },
})
const space = (...pools: PoolEntry[]) => ({ ...emptySpace, pools })
const a = pool('a', '10.0.0.0/16', 'uid-a')
const said = (each: IPPool, ...pools: PoolEntry[]) => {
  const { status, reason } = acceptanceOf(each, space(...pools), () => [])
  return `${status} ${reason}`
}

test('entered; not come to yet; being removed', () => {
  assert.is(said(a, entryOf(a, 'uid-a')), 'True Entered')
  assert.is(said(pool('a', '10.0.0.0/16')), 'Unknown Pending')
  assert.is(said(a), 'Unknown Pending')
  assert.is(said(a, { ...entryOf(a, 'uid-a'), state: 'closed' }), 'False Closing')
})

test('an overlap names both; a copy under another name, and a changed range, are told as what they are', () => {
  const { status, message } = acceptanceOf(
    pool('b', '10.0.128.0/17', 'uid-b'),
    space(entryOf(a, 'uid-a')),
    () => [],
  )
  assert.is(status, 'False')
  assert.is(message, 'IPPool b (10.0.128.0/17) collides with IPPool a (10.0.0.0/16)')
  assert.is(said(pool('copy', '10.9.0.0/16', 'uid-a'), entryOf(a, 'uid-a')), 'False Overlap')
  assert.is(said(pool('a', '10.0.0.0/17', 'uid-a'), entryOf(a, 'uid-a')), 'False Changed')
})

test('one over the address of a node is named with it; not one that is entered already, nor one for the IPAM plugin', () => {
  const nodes = [
    { name: 'node2', underlay: { 4: '10.0.0.12', 6: 'fd77::12' } },
    { name: 'node1', underlay: { 4: '10.0.0.11' } },
  ]
  const over = (each: IPPool, ...pools: PoolEntry[]) => {
    const { status, reason, message } = acceptanceOf(each, space(...pools), () => underlaysOf(nodes))
    return `${status} ${reason}: ${message}`
  }
  const refused = 'False Covers: IPPool a (10.0.0.0/16) covers 10.0.0.11, the address of node node1'
  assert.is(over(a), refused)
  const { uid: _, ...metadata } = a.metadata
  assert.is(over({ ...a, metadata }), refused)
  assert.match(over(pool('six', 'fd77::/64')), /^False Covers: .*fd77::12, the address of node node2$/)
  assert.is(over(a, entryOf(a, 'uid-a')), 'True Entered: 10.0.0.0/16 is its own')
  assert.match(over({ ...a, metadata }, entryOf(a, 'uid-a')), /^Unknown Pending/)
  assert.match(over({ ...a, spec: { ...a.spec, allowedUses: ['ipam'] } }), /^Unknown Pending/)
  assert.match(over(pool('b', '10.1.0.0/16', 'uid-b')), /^Unknown Pending/)
})

test.run()
