/** Servers of tests do not outlive a test process that runs out of time. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { until } from '../../../hack/rig/processes.ts'
import { ServerProcess } from '../../fixtures/server-process.ts'

const CHILD = fileURLToPath(new URL('server-process-child.ts', import.meta.url))

/** Who has ended and is not waited for by anybody is not there. */
const isThere = (pid: number): boolean => {
  try {
    return !readFileSync(`/proc/${pid}/stat`, 'utf8').includes(') Z ')
  } catch {
    return false
  }
}

test('a test process that is told to end takes its servers along', async () => {
  const child = spawn(process.execPath, ['--import', 'tsx', CHILD], { stdio: ['ignore', 'pipe', 'inherit'] })
  const [pid] = (await once(child.stdout, 'data')).map(Number) as [number]
  assert.ok(isThere(pid))
  child.kill('SIGTERM')
  assert.equal(await once(child, 'exit'), [143, null])
  try {
    await until(
      () => !isThere(pid),
      10_000,
      () => `process ${pid} is still there`,
    )
  } finally {
    if (isThere(pid)) process.kill(pid)
  }
})

test('killed, it is waited for, also twice; frozen and thawed it runs on', async () => {
  const server = new ServerProcess()
  assert.is(server.running, false)
  await server.kill()
  const { pid } = server.start(['sleep', '300'])
  server.freeze()
  server.thaw()
  assert.ok(server.running && isThere(pid as number))
  await Promise.all([server.kill(), server.kill()])
  assert.is(server.running, false)
  await server.kill()
})

test.run()
