/** What a real API server seldom does when it is wanted: answers that keep others waiting, cuts at the worst place, tokens changed under many. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import {
  type AddressInfo,
  createServer as createNetServer,
  type Server as NetServer,
  type Socket,
} from 'node:net'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { type ClientOptions, connectKubernetes } from '../../../../datastore/kubernetes/client.ts'
import { systemClock } from '../../../../lib/clock.ts'
import { isTwillError, type TwillError } from '../../../../lib/errors.ts'
import { silentLog } from '../../../../lib/log.ts'

interface Asked {
  readonly request: IncomingMessage
  readonly response: ServerResponse
}

let stop = async (): Promise<void> => {}
test.after.each(() => stop())

/** Answers nothing by itself. */
async function serve(options: Partial<ClientOptions> = {}) {
  const all: Asked[] = []
  const waiting: { count: number; resolve: () => void }[] = []
  const server = createServer((request, response) => {
    all.push({ request, response })
    for (const each of waiting) if (all.length >= each.count) each.resolve()
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const state = { token: 'first' }
  const client = await connect(`http://127.0.0.1:${portOf(server)}`, state, options)
  stop = async () => {
    client.close()
    server.closeAllConnections()
    await new Promise(resolve => server.close(resolve))
  }
  return {
    client,
    all,
    state,
    asked: (count: number) =>
      all.length >= count
        ? Promise.resolve()
        : new Promise<void>(resolve => waiting.push({ count, resolve })),
  }
}

const portOf = (server: NetServer): number => (server.address() as AddressInfo).port

function connect(server: string, state: { token: string }, options: Partial<ClientOptions> = {}) {
  const kubeconfig = () => `
current-context: it
contexts: [{ name: it, context: { cluster: it, user: it } }]
clusters: [{ name: it, cluster: { server: "${server}" } }]
users: [{ name: it, user: { token: ${state.token} } }]`
  return connectKubernetes(
    { kubeconfig: '/kubeconfig', ...options },
    {
      clock: systemClock,
      log: silentLog,
      environment: {},
      readFile: async () => Buffer.from(kubeconfig()),
    },
  )
}

const answer = ({ response }: Asked, status = 200): void => {
  response.writeHead(status, { 'content-type': 'application/json' }).end('{}')
}

const failureOf = (attempt: Promise<unknown>): Promise<TwillError> =>
  attempt.then(
    () => Promise.reject(new Error('expected a failure')),
    error => (isTwillError(error) ? error : Promise.reject(error)),
  )

for (const [how, end] of [
  ['ends', (socket: Socket) => void socket.end()],
  ['resets', (socket: Socket) => void socket.resetAndDestroy()],
] as const)
  test(`a server that ${how} a connection that begins with TLS: it may want none`, async () => {
    const server = createNetServer(socket =>
      socket.on('error', () => undefined).once('data', () => end(socket)),
    )
    await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
    const client = await connect(`https://127.0.0.1:${portOf(server)}`, { token: 'any' })
    stop = async () => {
      client.close()
      await new Promise(resolve => server.close(resolve))
    }
    const { message, data } = await failureOf(client.request('POST', '/change', { body: {} }))
    assert.match(message, /closed the connection before TLS was agreed: is it http there\?/)
    assert.is(data.sent, false)
  })

test('a change that waited for a connection in use, and was cut when the server had it, may have been made', async () => {
  const { client, all, asked } = await serve()
  const others = Array.from({ length: 8 }, (_, i) => client.request('GET', `/other/${i}`))
  const ends = Promise.allSettled(others)
  await asked(8)
  const change = failureOf(client.request('POST', '/change', { body: {} }))
  answer(all[0] as Asked)
  await asked(9)
  const { request } = all[8] as Asked
  assert.is(request.url, '/change')
  request.socket.destroy()
  const { code, data } = await change
  assert.equal([code, data.sent], ['kubernetes.unavailable', true])
  client.close()
  await ends
})

test('a token that was replaced while several asked with the old one: all ask again with the new one', async () => {
  const { client, all, asked, state } = await serve()
  const requests = Promise.all(['/a', '/b', '/c'].map(path => client.request('GET', path)))
  await asked(3)
  state.token = 'second'
  for (const each of all.splice(0)) answer(each, 401)
  await asked(3)
  for (const each of all) {
    assert.is(each.request.headers.authorization, 'Bearer second')
    answer(each)
  }
  await requests
})

test('an answer without end is not gathered: the attempt fails, it is said, and its connection goes', async () => {
  const { client, all, asked } = await serve({ answerMaxBytes: 1000 })
  const whole = client.request('GET', '/whole')
  await asked(1)
  const text = JSON.stringify({ a: 'x'.repeat(1000 - '{"a":""}'.length) })
  ;(all[0] as Asked).response.end(text)
  assert.is(JSON.stringify(await whole), text)
  for (const status of [200, 500]) {
    const before = all.length
    const endless = failureOf(client.request('GET', '/endless'))
    await asked(before + 1)
    const { response } = all[before] as Asked
    const gone = new Promise(resolve => response.on('close', resolve))
    response.writeHead(status)
    response.write('x'.repeat(600))
    response.write('x'.repeat(401))
    const { code, message, retryable } = await endless
    assert.equal([code, retryable], ['kubernetes.unavailable', true])
    assert.match(message, /GET \/endless .*longer than 1000 bytes/)
    assert.match(client.status().reason ?? '', /longer than 1000 bytes/)
    assert.is(client.status().connected, false)
    await gone
  }
})

test('what is asked after the end is cancelled, and goes nowhere', async () => {
  const { client, all } = await serve()
  client.close()
  const { code } = await failureOf(client.request('GET', '/late'))
  assert.is(code, 'cancelled')
  const watching = client.watch('/late', {}, () => {}, new AbortController().signal)
  assert.is((await failureOf(watching)).code, 'cancelled')
  assert.is(all.length, 0)
})

test.run()
