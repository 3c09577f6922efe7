/** twillctl ipam check, repair and show on a real node: pods whose end nobody told, a journal that lost them, etcd. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { AuditReport } from '../../daemon/api/types.ts'
import { Cluster } from '../../hack/rig/cluster.ts'
import { until } from '../../hack/rig/processes.ts'
import { readStatus, settledState, untilState } from '../fixtures/node-state.ts'

const rig = new Cluster(`tws-audit-${process.pid}`)
const test = suite('audit')
const NODE = 'node1'
let clean = ''

test.before(async () => {
  // Looks only when asked: what a test sees is what it brought about.
  await rig.up({ nodes: 2, config: { coolDown: '1s', audit: { interval: '1h', grace: '1s' } } })
  await rig.addPod(NODE, 'bystander')
  clean = await settledState(rig, NODE)
})
test.after(async () => {
  await rig.down()
})

const twillctl = (...words: string[]) =>
  rig.exec(NODE, ['twillctl', ...words], { env: rig.node(NODE).environment })

async function findings(): Promise<AuditReport['findings']> {
  const { stdout } = await twillctl('ipam', 'check', '-o', 'json')
  const { daemon } = JSON.parse(stdout) as { daemon: AuditReport & { error: string | null } }
  assert.is(daemon.error, null)
  return daemon.findings
}

const kinds = async () => (await findings()).map(({ kind }) => kind)

/** @returns what was mended, once the grace period is over */
async function repaired(): Promise<string> {
  let out = ''
  await until(
    async () => {
      out = (await twillctl('ipam', 'repair', '--grace', '1s')).stdout
      return out !== ''
    },
    30_000,
    () => 'nothing was mended',
  )
  return out
}

async function agrees(): Promise<void> {
  const { status, stdout } = await twillctl('ipam', 'check')
  assert.is(status, 0, stdout)
  assert.match(stdout, /Node node1: .*runtime: none: all agrees/)
}

test('journal, ledgers, kernel, namespaces and datastore agree', agrees)

test('rule 17: a pod whose namespace went without a DEL is detached after the grace period, others are not', async () => {
  const pod = await rig.addPod(NODE, 'lost')
  const [address] = pod.addresses as [string]
  assert.match((await twillctl('ipam', 'show', '--ip', address)).stdout, `of ${NODE})`)
  await rig.node(NODE).must(['ip', 'netns', 'delete', 'lost'])
  await until(
    async () => (await kinds()).join() === 'attachment.dead',
    20_000,
    () => 'nothing was found',
  )
  const metrics = (await rig.api(NODE, '/v1/metrics')).body
  assert.match(metrics, 'twill_audit_findings{kind="attachment.dead"} 1')
  const { conditions } = await readStatus(rig, NODE)
  assert.match(conditions.map(({ type, message }) => `${type} ${message}`).join(), 'Audit attachment.dead')
  const dry = await twillctl('ipam', 'repair', '--dry-run')
  assert.not.match(dry.stdout, /^mended/)
  assert.match(await repaired(), /^mended attachment\.dead eth0 of default\/lost/)
  await untilState(rig, NODE, clean, 30_000)
  await agrees()
  const { stdout } = await twillctl('ipam', 'show', '--ip', address)
  assert.match(stdout, new RegExp(`BEFORE[^]*${address.replaceAll('.', '\\.')} +default/lost`))
  assert.match(
    (await rig.api(NODE, '/v1/metrics')).body,
    'twill_audit_mended_total{kind="attachment.dead"} 1',
  )
  await rig.deletePod('lost')
})

test('rule 17: a holder that a damaged journal lost and that has died since is released', async () => {
  const pod = await rig.addPod(NODE, 'forgotten')
  await settledState(rig, NODE)
  await rig.stopDaemon(NODE)
  await rig.node(NODE).must(['ip', 'netns', 'delete', 'forgotten'])
  await rig.node(NODE).must(['sed', '-i', `s/${pod.containerId}/x/`, '/var/lib/twill/journal'])
  await rig.startDaemon(NODE)
  assert.equal(await kinds(), ['holder.only-in-ledger'])
  assert.match(await repaired(), /^mended holder\.only-in-ledger eth0 of default\/forgotten/)
  await untilState(rig, NODE, clean, 30_000)
  await agrees()
  await rig.deletePod('forgotten')
})

test('what a pod does to its own interface is said, and left to it', async () => {
  await rig.addPod(NODE, 'odd')
  await rig.exec('odd', ['ip', '-4', 'address', 'flush', 'dev', 'eth0'])
  const [found, ...more] = await findings()
  assert.equal([found?.kind, found?.repair, more.length], ['attachment.interface-wrong', 'no', 0])
  assert.match(found?.message ?? '', /address 10\..* is missing on eth0/)
  await rig.deletePod('odd')
  await untilState(rig, NODE, clean, 30_000)
})

test('a ledger of nobody in etcd goes, the others stay', async () => {
  const prefix = '/twill/v1/'
  const list = await rig.etcdctl(['get', '--prefix', `${prefix}ledgers/`, '--keys-only'])
  const keys = list.stdout.split('\n').filter(line => line !== '')
  const orphan = (keys[0] as string).replace(/[^/]*$/, 'uid-gone')
  await rig.etcdctl(['put', orphan, JSON.stringify({ v: 1, owner: 'uid-gone', generations: {}, recent: [] })])
  const { status, stdout } = await twillctl('ipam', 'check')
  assert.is(status, 1)
  assert.match(stdout, 'ledger.of-nobody')
  assert.match(await repaired(), /^mended ledger\.of-nobody/)
  const after = await rig.etcdctl(['get', '--prefix', `${prefix}ledgers/`, '--keys-only'])
  assert.equal(after.stdout, list.stdout)
  await agrees()
})

test('the daemon is away: the datastore is compared, and shown', async () => {
  await rig.stopDaemon(NODE)
  const check = await twillctl('ipam', 'check')
  assert.is(check.status, 1)
  assert.match(check.stdout, /This node: not compared.*\n\nDatastore: .*all agrees/)
  const show = await twillctl('ipam', 'show', '--node', 'node1')
  assert.match(show.stdout, 'default/bystander')
  await rig.startDaemon(NODE)
})

test.run()
