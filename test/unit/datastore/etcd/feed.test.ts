import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { Feed } from '../../../../datastore/etcd/feed.ts'

test('items come in order, waited for or not', async () => {
  const feed = new Feed<number>()
  const first = feed.next()
  feed.push(1)
  feed.push(2)
  assert.is(await first, 1)
  assert.is(await feed.next(), 2)
})

test('a failed feed gives nothing more, not even what was waiting', async () => {
  const feed = new Feed<number>()
  feed.push(1)
  feed.fail(new Error('first'))
  feed.fail(new Error('second'))
  const error = await feed.next().catch(reason => reason)
  assert.is(error.message, 'first')
})

test.run()
