/** What listeners of a node's facts are told, with answers by hand. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { KubernetesFacts } from '../../../../datastore/kubernetes/facts.ts'
import { silentLog } from '../../../../lib/log.ts'
import { object, page, ScriptedClient } from '../../../fixtures/kubernetes/scripted-client.ts'
import { ManualClock, SeededRandom, settle } from '../../../fixtures/manual-clock.ts'

test('who subscribes while another is told hears of each object once', async () => {
  const client = new ScriptedClient()
  const modules = { client, clock: new ManualClock(), random: new SeededRandom(7), log: silentLog }
  const facts = new KubernetesFacts({ nodeName: 'node1' }, modules)
  const heard: string[] = []
  const second = {
    pods: (changes: readonly { key: string }[]) => heard.push(...changes.map(({ key }) => key)),
  }
  facts.subscribe({ pods: () => void facts.subscribe(second) })
  await settle()
  client.answer(page(10, [object('web', 5, { namespace: 'ns' })]))
  await settle()
  assert.equal(heard, ['ns/web'])
  await facts.close()
})

test.run()
