/** The daemon's API over a real Unix socket: an answer, and every way of getting none. */
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer, type RequestListener } from 'node:http'
import { createServer as createRawServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { readStatus } from '../../../cli/daemon-api.ts'
import { messageOf } from '../../../lib/errors.ts'

const folder = mkdtempSync(join(tmpdir(), `twg-${process.pid}-`))
test.after(() => rmSync(folder, { recursive: true, force: true }))

async function asked(socket: string): Promise<unknown> {
  return readStatus(socket).catch(messageOf)
}

async function answeredBy(listener: RequestListener): Promise<unknown> {
  const socket = join(folder, 'api.sock')
  const server = createServer(listener)
  await new Promise<void>(resolve => server.listen(socket, resolve))
  const answer = await asked(socket)
  server.closeAllConnections()
  await new Promise(resolve => server.close(resolve))
  return answer
}

test('the status, asked for by its path', async () => {
  let path = ''
  const answer = await answeredBy((request, response) => {
    path = request.url ?? ''
    response.end('{"ready":true}')
  })
  assert.equal([path, answer], ['/v1/status', { ready: true }])
})

test('every way of getting none is one line that names the socket', async () => {
  const socket = join(folder, 'api.sock')
  const notFound = await answeredBy((_, response) => response.writeHead(404).end())
  assert.is(notFound, `daemon at ${socket}: answered 404 to /v1/status`)
  assert.match(String(await answeredBy((_, response) => response.end('{'))), `daemon at ${socket}: not JSON`)
  assert.match(String(await answeredBy(request => request.socket.destroy())), 'socket hang up')
  assert.is(
    await asked(join(folder, 'none.sock')),
    `daemon at ${folder}/none.sock: no such socket: is twilld running?`,
  )
})

test('a socket that a dead daemon left behind', async () => {
  const { spawnSync } = await import('node:child_process')
  const socket = join(folder, 'dead.sock')
  const script = `require('net').createServer().listen(${JSON.stringify(socket)}, () => process.kill(process.pid, 'SIGKILL'))`
  spawnSync(process.execPath, ['-e', script])
  assert.is(await asked(socket), `daemon at ${socket}: nobody listens: twilld has stopped`)
})

test('a daemon that accepts and says nothing counts as away', async () => {
  const socket = join(folder, 'mute.sock')
  const server = createRawServer(() => {})
  await new Promise<void>(resolve => server.listen(socket, resolve))
  assert.match(String(await readStatus(socket, 50).catch(messageOf)), 'no answer for 0.05 s')
  server.close()
})

test.run()
