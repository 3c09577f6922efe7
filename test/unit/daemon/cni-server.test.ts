import { once } from 'node:events'
import { mkdtempSync, rmSync, statSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { type Answer, decodeAnswer, encodeRequest, type Request } from '../../../cni-bin/frame.ts'
import { CniServer, type Gone, type Serve } from '../../../daemon/attach/server.ts'
import { silentLog } from '../../../lib/log.ts'

const folder = mkdtempSync(join(tmpdir(), 'twill-socket-'))
test.after(() => rmSync(folder, { recursive: true }))

const request: Request = {
  program: 'twill',
  environment: new Map([['CNI_COMMAND', 'VERSION']]),
  stdin: Buffer.from('{}'),
  netnsDev: null,
  netnsIno: null,
}

let sockets = 0
async function bed(serve: Serve) {
  const path = join(folder, `${sockets++}.sock`)
  const undelivered: Request[] = []
  const server = new CniServer(
    { path },
    {
      serve,
      undelivered: async each => {
        undelivered.push(each)
      },
      delivered: () => undefined,
      log: silentLog,
    },
  )
  await server.listen()
  return { path, undelivered, server }
}

async function dial(path: string): Promise<Socket> {
  const socket = connect(path)
  await once(socket, 'connect')
  return socket
}

/** Resolves however the connection ends. */
function closing(socket: Socket): Promise<void> {
  socket.on('error', () => undefined)
  return new Promise(resolve => socket.on('close', () => resolve()))
}

async function answerOf(socket: Socket): Promise<Answer | null> {
  const chunks: Buffer[] = []
  socket.on('data', chunk => chunks.push(chunk))
  await once(socket, 'close')
  return decodeAnswer(Buffer.concat(chunks))
}

const echo: Serve = async ({ program, environment, stdin }) => ({
  status: 7,
  stdout: `${program} ${environment.get('CNI_COMMAND')} ${stdin.length}`,
})

test('one frame, one answer; the socket is for root alone', async () => {
  const { path, server } = await bed(echo)
  assert.is(statSync(path).mode & 0o777, 0o600)
  const socket = await dial(path)
  const answer = answerOf(socket)
  socket.write(encodeRequest(request))
  assert.equal(await answer, { status: 7, stdout: 'twill VERSION 2' })
  await server.close()
})

test('a frame in single bytes is a frame', async () => {
  const { path, server } = await bed(echo)
  const socket = await dial(path)
  socket.setNoDelay(true)
  const answer = answerOf(socket)
  for (const byte of encodeRequest(request)) socket.write(Buffer.of(byte))
  assert.is((await answer)?.stdout, 'twill VERSION 2')
  await server.close()
})

test('1 MiB of junk costs its connection only', async () => {
  const { path, server } = await bed(echo)
  const junk = await dial(path)
  const closed = closing(junk)
  junk.write(Buffer.alloc(1024 * 1024, 'x'))
  await closed
  const huge = encodeRequest(request)
  huge.writeUInt32LE(0xffffffff, 4)
  const second = await dial(path)
  const refused = closing(second)
  second.write(huge)
  await refused
  const socket = await dial(path)
  const answer = answerOf(socket)
  socket.write(encodeRequest(request))
  assert.is((await answer)?.status, 7)
  await server.close()
})

test('a client that goes away in the middle is told to the verb, and a late success is undone', async () => {
  let finish = (_: Answer) => {}
  let told: Gone | null = null
  const { path, server, undelivered } = await bed((_, gone) => {
    told = gone
    return new Promise(resolve => {
      finish = resolve
    })
  })
  const socket = await dial(path)
  socket.write(encodeRequest(request))
  while (told === null) await new Promise(resolve => setTimeout(resolve, 1))
  socket.destroy()
  while (!(told as Gone).aborted) await new Promise(resolve => setTimeout(resolve, 1))
  finish({ status: 0, stdout: 'done' })
  await new Promise(resolve => setTimeout(resolve, 5))
  assert.is(undelivered.length, 1)
  await server.close()
})

test('a failure that could not be delivered needs no undoing', async () => {
  let finish = (_: Answer) => {}
  let began = false
  const { path, server, undelivered } = await bed(() => {
    began = true
    return new Promise(resolve => {
      finish = resolve
    })
  })
  const socket = await dial(path)
  socket.write(encodeRequest(request))
  while (!began) await new Promise(resolve => setTimeout(resolve, 1))
  socket.destroy()
  await once(socket, 'close')
  finish({ status: 1, stdout: '{}' })
  await new Promise(resolve => setTimeout(resolve, 5))
  assert.is(undelivered.length, 0)
  await server.close()
})

test('what an earlier process left at the path does not hinder', async () => {
  const { path, server } = await bed(echo)
  await server.close()
  const again = new CniServer(
    { path },
    { serve: echo, undelivered: async () => undefined, delivered: () => undefined, log: silentLog },
  )
  await again.listen()
  const socket = await dial(path)
  const answer = answerOf(socket)
  socket.write(encodeRequest(request))
  assert.is((await answer)?.status, 7)
  await again.close()
})

test('an answer that nobody took and that cannot be undone ends its connection and nothing else', async () => {
  const rejections: unknown[] = []
  const note = (reason: unknown) => rejections.push(reason)
  process.on('unhandledRejection', note)
  let leave = () => {}
  const left = new Promise<void>(resolve => {
    leave = resolve
  })
  const server = new CniServer(
    { path: join(folder, 'undo.sock') },
    {
      serve: async (_, gone) => {
        leave()
        while (!gone.aborted) await new Promise(resolve => setTimeout(resolve, 1))
        return { status: 0, stdout: '' }
      },
      undelivered: async () => {
        throw new Error('the kernel says no')
      },
      delivered: () => undefined,
      log: silentLog,
    },
  )
  await server.listen()
  const socket = await dial(join(folder, 'undo.sock'))
  socket.write(encodeRequest(request))
  await left
  socket.destroy()
  await server.close()
  await new Promise(resolve => setImmediate(resolve))
  process.off('unhandledRejection', note)
  assert.equal(rejections, [])
})

test.run()
