/** twillctl ipam check and repair: both sources, either away, exit codes; what is mended, by whom, and when not. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type { AuditReport } from '../../../daemon/api/types.ts'
import { TwillError } from '../../../lib/errors.ts'
import { healthyRecords, LEDGER1 } from '../../fixtures/audited-cluster.ts'
import { ledger } from '../../fixtures/cluster-records.ts'
import { assertGolden } from '../../fixtures/golden.ts'
import { Twillctl } from '../../fixtures/twillctl.ts'

const AGREES: AuditReport = {
  node: 'node1',
  at: '2026-01-02T03:04:05.000Z',
  compared: { attachments: 2, addresses: 4 },
  runtime: '/run/containerd/containerd.sock',
  findings: [],
  mended: [],
}
const DISAGREES: AuditReport = {
  ...AGREES,
  findings: [
    {
      kind: 'attachment.dead',
      object: 'eth0 of c1',
      message: 'its namespace is gone and its link with it',
      since: '2026-01-02T03:00:00.000Z',
      mend: 'it is detached as by DEL',
      repair: 'later',
    },
  ],
  mended: [
    { kind: 'attachment.dead', object: 'eth0 of c1', failure: null },
    { kind: 'attachment.dead', object: 'eth0 of c2', failure: 'disk full' },
  ],
}
const ORPHAN = LEDGER1.replace('node1', 'old')

async function cluster(audit: AuditReport | null, more: Record<string, unknown> = {}): Promise<Twillctl> {
  const cli = new Twillctl()
  cli.audit = audit
  for (const [key, value] of Object.entries({ ...healthyRecords(), ...more })) await cli.put(key, value)
  return cli
}

const orphan = { [ORPHAN]: ledger('uid-old', { '2': ['10.244.0.9'] }) }

test('check: all agrees', async () => {
  const { code, out, err } = await (await cluster(AGREES)).run('ipam', 'check')
  assert.equal([code, err], [0, ''])
  assertGolden('cli/ipam-check-agrees.txt', out)
})

test('check: disagreements, each with what it is, since when and what would mend it', async () => {
  const { code, out } = await (await cluster(DISAGREES, orphan)).run('ipam', 'check')
  assert.is(code, 1)
  assertGolden('cli/ipam-check.txt', out)
})

test('check: one of the two is enough for exit code 1', async () => {
  assert.is((await (await cluster(DISAGREES)).run('ipam', 'check')).code, 1)
  assert.is((await (await cluster(AGREES, orphan)).run('ipam', 'check')).code, 1)
})

test('check: the daemon or the datastore is away: the other is shown', async () => {
  const away = await cluster(null)
  const { code, out } = await away.run('ipam', 'check')
  assert.is(code, 1)
  assert.match(out, /^This node: not compared: daemon at .*no such socket/)
  assert.match(out, 'Datastore: 1 slot, 2 ledgers and 3 addresses compared: all agrees')
  const cut = await cluster(AGREES)
  cut.store.failWith(new TwillError('store.unavailable', 'no connection'))
  const other = await cut.run('ipam', 'check')
  assert.is(other.code, 1)
  assert.match(other.out, /Node node1: .* all agrees\n\nDatastore: not compared: no connection/)
})

test('check: JSON carries both answers, or why there is none', async () => {
  const json = JSON.parse((await (await cluster(DISAGREES, orphan)).run('ipam', 'check', '-o', 'json')).out)
  assert.is(json.daemon.findings[0].kind, 'attachment.dead')
  assert.equal(json.datastore.compared, { slots: 1, ledgers: 3, addresses: 3 })
  assert.equal(json.datastore.findings[0].repair, 'yes')
  const away = JSON.parse((await (await cluster(null)).run('ipam', 'check', '-o', 'json')).out)
  assert.match(away.daemon.error, 'no such socket')
})

test('repair: by daemon and in the datastore, which is looked at twice; a failure is told', async () => {
  const cli = await cluster(DISAGREES, orphan)
  let sleptMs = 0
  cli.onSleep = passedMs => {
    sleptMs = passedMs
  }
  assert.equal(await cli.run('ipam', 'repair', '--grace', '5m'), {
    code: 1,
    out: 'mended attachment.dead eth0 of c1\nmended ledger.of-nobody ledger 10.244.0.0/26 of uid-old\n',
    err: '1 in the datastore: looking again in 300 s\nerror: attachment.dead eth0 of c2: disk full\n',
  })
  assert.equal([cli.repairs, sleptMs, await cli.record(ORPHAN)], [[false], 300_000, null])
})

test('repair: a dry run writes nothing and waits for nothing', async () => {
  const cli = await cluster(AGREES, orphan)
  cli.onSleep = () => assert.unreachable('it waited')
  assert.equal(await cli.run('ipam', 'repair', '--dry-run'), {
    code: 0,
    out: 'would mend ledger.of-nobody ledger 10.244.0.0/26 of uid-old\n',
    err: '',
  })
  assert.equal(cli.repairs, [true])
  assert.ok(await cli.record(ORPHAN))
})

test('repair: nothing to do; nobody there', async () => {
  assert.equal(await (await cluster(AGREES)).run('ipam', 'repair'), {
    code: 0,
    out: '',
    err: 'nothing that is proven needs mending\n',
  })
  const away = await cluster(null, orphan)
  const { code, out, err } = await away.run('ipam', 'repair')
  assert.is(code, 1)
  assert.match(out, 'mended ledger.of-nobody')
  assert.match(err, "this node's daemon mended nothing: daemon at")
})

test.run()
