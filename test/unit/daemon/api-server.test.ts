import { once } from 'node:events'
import { mkdtempSync, rmSync, statSync } from 'node:fs'
import { request } from 'node:http'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { type ApiOptions, ApiServer } from '../../../daemon/api/server.ts'
import type { AuditReport, Status } from '../../../daemon/api/types.ts'
import { TwillError } from '../../../lib/errors.ts'

const folder = mkdtempSync(join(tmpdir(), 'twill-api-'))
test.after(() => rmSync(folder, { recursive: true }))

const status: Status = {
  node: {
    name: 'n',
    uid: 'u',
    incarnation: 'b',
    version: '0',
    startedAt: '2026-01-02T03:04:05.000Z',
    pid: 1,
  },
  ready: false,
  reasons: ['the first reconcile is not through yet'],
  datastore: {
    connected: true,
    reason: null,
    clusterUid: 'c',
    commits: 0,
    lastAnswerAt: null,
    confirmed: false,
  },
  kubernetes: null,
  underlay: [],
  overlay: { device: null, vni: 84, port: 4789, tunnel: [], podMtu: 1450 },
  nodes: [],
  parts: [],
  leases: [],
  pods: [],
  reconcile: { converged: false, failing: [], repairs: {} },
  foreignFilters: [],
  conditions: [],
}

let sockets = 0
async function bed(addresses: Pick<ApiOptions, 'metricsAddress' | 'healthAddress'> = {}) {
  const socketPath = join(folder, `${sockets++}.sock`)
  const state = { ready: false, datastore: status.datastore }
  const audits: (boolean | null)[] = []
  const report = async (dryRun: boolean | null): Promise<AuditReport> => {
    if (!state.ready) throw new TwillError('ipam.not-confirmed', 'starting')
    audits.push(dryRun)
    return {
      node: 'n',
      at: '',
      compared: { attachments: 0, addresses: 0 },
      runtime: 'none',
      findings: [],
      mended: [],
    }
  }
  const server = new ApiServer(
    { socketPath, ...addresses },
    {
      status: () => ({ ...status, ...state, reasons: state.ready ? [] : status.reasons }),
      metrics: async () => 'twill_ready 1\n',
      audit: { check: () => report(null), repair: dryRun => report(dryRun) },
    },
  )
  await server.listen()
  return { socketPath, server, state, audits }
}

type Where = { socketPath: string } | { host: string; port: number }

function ask(
  where: Where,
  path: string,
  method = 'GET',
): Promise<{ status: number | undefined; body: string }> {
  return new Promise((resolve, reject) => {
    const call = request({ ...where, path, method, agent: false }, response => {
      const chunks: Buffer[] = []
      response.on('data', chunk => chunks.push(chunk))
      response.on('end', () =>
        resolve({ status: response.statusCode, body: Buffer.concat(chunks).toString() }),
      )
    })
    call.on('error', reject)
    call.end()
  })
}

async function freePort(): Promise<number> {
  const probe = createServer().listen(0, '127.0.0.1')
  await once(probe, 'listening')
  const { port } = probe.address() as { port: number }
  probe.close()
  await once(probe, 'close')
  return port
}

test('readiness is 503 with its reasons, then 200; live is 200 all the time', async () => {
  const { socketPath, server, state } = await bed()
  assert.is(statSync(socketPath).mode & 0o777, 0o600, 'for root alone')
  const waiting = await ask({ socketPath }, '/v1/ready')
  assert.is(waiting.status, 503)
  assert.equal(JSON.parse(waiting.body), { ready: false, reasons: status.reasons })
  assert.is((await ask({ socketPath }, '/v1/live')).status, 200)
  state.ready = true
  assert.is((await ask({ socketPath }, '/v1/ready')).status, 200)
  await server.close()
})

test('a datastore that has not said since the start who this node is keeps a rollout from the next node, and nothing else', async () => {
  const port = await freePort()
  const { socketPath, server, state } = await bed({ healthAddress: `127.0.0.1:${port}` })
  const next = async () => {
    const { status, body } = await ask({ host: '127.0.0.1', port }, '/v1/ready?datastore')
    return [status, JSON.parse(body).reasons]
  }
  assert.equal(await next(), [503, status.reasons])
  const away = {
    ...status.datastore,
    connected: false,
    reason: 'etcd at http://192.0.2.10:2379: no connection',
  }
  Object.assign(state, { ready: true, datastore: away })
  const never = 'the datastore has not said since the start at 2026-01-02T03:04:05.000Z who this node is'
  assert.equal(await next(), [503, [`${never}: ${away.reason}`]])
  assert.is((await ask({ socketPath }, '/v1/ready')).status, 200, 'pods start')
  state.datastore = { ...away, confirmed: true }
  assert.equal(await next(), [200, []], 'it went away later')
  assert.is((await ask({ socketPath }, '/v1/ready?datastore')).status, 200, 'on the socket too')
  await server.close()
})

test('status is JSON; what is not there is 404, what is not read is 405', async () => {
  const { socketPath, server } = await bed()
  assert.is(JSON.parse((await ask({ socketPath }, '/v1/status?x=1')).body).node.name, 'n')
  assert.is((await ask({ socketPath }, '/v1/nothing')).status, 404)
  assert.is((await ask({ socketPath }, '/v1/status', 'POST')).status, 405)
  await server.close()
})

test('an audit is asked for by GET, its repair by POST; 503 while there is nothing to audit', async () => {
  const { socketPath, server, state, audits } = await bed()
  const early = await ask({ socketPath }, '/v1/audit')
  assert.equal([early.status, JSON.parse(early.body)], [503, { error: 'starting' }])
  state.ready = true
  assert.is(JSON.parse((await ask({ socketPath }, '/v1/audit')).body).runtime, 'none')
  assert.is((await ask({ socketPath }, '/v1/audit/repair', 'GET')).status, 404)
  assert.is((await ask({ socketPath }, '/v1/audit/repair', 'POST')).status, 200)
  assert.is((await ask({ socketPath }, '/v1/audit/repair?dry-run', 'POST')).status, 200)
  assert.equal(audits, [null, false, true])
  await server.close()
})

test('whether it is well is told on an address of its own, and there nothing else', async () => {
  const port = await freePort()
  const { server, state } = await bed({ healthAddress: `127.0.0.1:${port}` })
  const remote = { host: '127.0.0.1', port }
  assert.is((await ask(remote, '/v1/live')).status, 200)
  assert.is((await ask(remote, '/v1/ready')).status, 503)
  state.ready = true
  assert.is((await ask(remote, '/v1/ready')).status, 200)
  for (const path of ['/v1/status', '/v1/metrics', '/metrics', '/v1/audit', '/'])
    assert.is((await ask(remote, path)).status, 404, path)
  assert.is((await ask(remote, '/v1/audit/repair', 'POST')).status, 405)
  await server.close()
})

test('metrics are on the socket, and on an address only when one is configured, and there nothing else', async () => {
  const port = await freePort()
  const quiet = await bed()
  assert.is((await ask(quiet, '/v1/metrics')).body, 'twill_ready 1\n')
  await quiet.server.close()
  const { server } = await bed({ metricsAddress: `127.0.0.1:${port}` })
  const remote = { host: '127.0.0.1', port }
  assert.is((await ask(remote, '/metrics')).body, 'twill_ready 1\n')
  for (const path of ['/v1/status', '/v1/metrics', '/'])
    assert.is((await ask(remote, path)).status, 404, path)
  assert.is((await ask(remote, '/v1/audit/repair', 'POST')).status, 405)
  await server.close()
  await ask(remote, '/metrics').then(
    () => assert.unreachable('it still answers'),
    (error: NodeJS.ErrnoException) => assert.is(error.code, 'ECONNREFUSED'),
  )
})

test('1 MiB of junk costs its connection only', async () => {
  const { socketPath, server } = await bed()
  const junk = connect(socketPath)
  junk.on('error', () => undefined)
  const closed = new Promise(resolve => junk.on('close', resolve))
  junk.resume()
  junk.write(Buffer.alloc(1024 * 1024, 0))
  await closed
  assert.is((await ask({ socketPath }, '/v1/live')).status, 200)
  await server.close()
})

test.run()
