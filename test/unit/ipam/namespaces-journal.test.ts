/** What the journal remembers of namespaces, of which a pass looks only at those that changed. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { MemoryCluster } from '../../../datastore/memory/cluster.ts'
import { MemoryStore } from '../../../datastore/memory/store.ts'
import type { IpamJournalRecord } from '../../../ipam/journal-records.ts'
import { Namespaces } from '../../../ipam/namespaces.ts'
import { silentLog } from '../../../lib/log.ts'
import { ManualClock, settle } from '../../fixtures/manual-clock.ts'

const RETAIL = { matchLabels: { team: 'retail' } }
const OPEN = { matchLabels: { stage: 'open' } }

async function started(journaled: Record<string, string> = {}) {
  const cluster = new MemoryCluster()
  const store = new MemoryStore({}, { cluster, clock: new ManualClock() })
  const put = async (name: string, labels: Record<string, string> | null) => {
    const key = `resources/namespaces/${name}`
    const document = {
      apiVersion: 'twill.network/v1alpha1',
      kind: 'Namespace',
      metadata: { name, labels },
      spec: {},
    }
    const value = labels === null ? null : JSON.stringify(document)
    assert.ok(cluster.commit({ key, expected: cluster.get(key)?.modRevision ?? 0, value }).committed)
    await settle()
  }
  await put('shop', { team: 'retail', stage: 'open' })
  await put('desk', { team: 'office' })
  const said: string[] = []
  /** Before the record is in the journal. */
  const before = { append: async (): Promise<void> => undefined }
  const append = async (record: IpamJournalRecord) => {
    await before.append()
    if (record.t !== 'namespaces') return
    for (const { name, labels } of record.changed) said.push(`${name} ${Object.values(labels).join()}`)
    for (const name of record.gone) said.push(`${name} gone`)
  }
  const known = Object.entries(journaled).map(([name, team]) => ({
    name,
    labels: { team },
    ipv4: [],
    ipv6: [],
  }))
  const namespaces = new Namespaces(
    { journaled: new Map(known.map(each => [each.name, each])), onChange: () => undefined },
    { store, log: silentLog, journal: { append } },
  )
  await settle()
  const recorded = async (...selectors: Parameters<Namespaces['record']>[0]) => {
    await namespaces.record(selectors)
    return said.splice(0).sort()
  }
  return { put, recorded, before, close: () => namespaces.close() }
}

test('first all of them, then what changed, and all again when other labels count', async () => {
  const { put, recorded, close } = await started({ desk: 'office', old: 'retail' })
  assert.equal(await recorded(RETAIL), ['old gone', 'shop retail'])
  assert.equal(await recorded(RETAIL), [])
  await put('desk', { team: 'retail' })
  await put('shop', null)
  assert.equal(await recorded(RETAIL), ['desk retail', 'shop gone'])
  await put('shop', { stage: 'open' })
  assert.equal(await recorded(OPEN), ['desk ', 'shop open'])
  assert.equal(await recorded(), ['desk gone', 'shop gone'])
  await close()
})

test('what changes while the journal is written, or could not be written, is not forgotten', async () => {
  const { put, recorded, before, close } = await started()
  before.append = async () => {
    before.append = async () => undefined
    await put('shop', { team: 'office' })
  }
  assert.equal(await recorded(RETAIL), ['desk office', 'shop retail'])
  before.append = async () => {
    throw new Error('disk full')
  }
  assert.equal(await recorded(RETAIL).catch(String), 'Error: disk full')
  before.append = async () => undefined
  assert.equal(await recorded(RETAIL), ['shop office'])
  await close()
})

test.run()
