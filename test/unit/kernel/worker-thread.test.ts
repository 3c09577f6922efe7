/** What a kernel's thread is sent, and how often. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { OWN_PATHS } from '../../../kernel/host-paths.ts'
import { KernelThread } from '../../../kernel/worker/thread.ts'

/** Answers each job with the number of its message and what it was asked. */
const COUNTING = new URL(
  `data:text/javascript,${encodeURIComponent(`
    import { parentPort } from 'node:worker_threads'
    let messages = 0
    parentPort.on('message', requests => {
      messages++
      parentPort.postMessage({ answers: requests.map(({ id, args }) => ({ id, value: [messages, args[0].path] })) })
    })
    parentPort.postMessage({ ready: true, wakeFd: null })
  `)}`,
)

const netns = (path: string) => ({ path, dev: null, ino: null })

test('short jobs of one turn of the event loop share a message, also when its callbacks ask one after the other', async () => {
  const thread = new KernelThread(
    { role: 'pods', url: COUNTING, host: OWN_PATHS },
    { onEvent() {}, onEnd() {} },
  )
  try {
    await thread.ready
    const asked: Promise<string>[] = []
    for (const path of ['a', 'b', 'c']) {
      asked.push(thread.run('netnsCookie', netns(path)))
      await null
    }
    const answers: unknown = await Promise.all([...asked])
    assert.equal(answers, [
      [1, 'a'],
      [1, 'b'],
      [1, 'c'],
    ])
    const later: unknown = await thread.run('netnsCookie', netns('d'))
    assert.equal(later, [2, 'd'])
    const short = thread.run('netnsCookie', netns('e'))
    const long: unknown[] = [
      thread.run('inspect', netns('f'), 'eth0'),
      thread.run('inspect', netns('g'), 'eth0'),
    ]
    const together: unknown = await Promise.all([short, ...long])
    assert.equal(together, [
      [3, 'e'],
      [3, 'f'],
      [3, 'g'],
    ])
    const next: unknown = await thread.run('netnsCookie', netns('h'))
    assert.equal(next, [4, 'h'], 'nothing was sent for nobody')
  } finally {
    await thread.close()
  }
})

test.run()
