/** Accept chains in a foreign filter that drops: made, and put back when somebody takes them out. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { run } from '../fixtures/netns-lab.ts'
import { ReconcileNode } from '../fixtures/reconcile-node.ts'
import { facts } from '../unit/daemon/cluster-facts.ts'

const machine = await ReconcileNode.create(0)
const rules = () => run('iptables-nft', '-S')

test('where FORWARD drops by default our chain stands before anything else', async () => {
  run('iptables-nft', '-P', 'FORWARD', 'DROP')
  run('iptables-nft', '-A', 'FORWARD', '-j', 'DROP')
  machine.facts = facts({ attachments: [] })
  machine.loop.start()
  await machine.until('the jump', () => rules().includes('-A FORWARD -j TWILL-FORWARD'))
  assert.ok(rules().indexOf('-A FORWARD -j TWILL-FORWARD') < rules().indexOf('-A FORWARD -j DROP'))
  assert.match(rules(), '-A TWILL-FORWARD -i twl+ -j ACCEPT')
  await machine.loop.settled()
  assert.equal(machine.repairs, [])
})

test('a foreign program that flushes and loads its own: the jump and the chain come back, counted', async () => {
  run('iptables-nft', '-F')
  run('iptables-nft', '-A', 'FORWARD', '-j', 'DROP')
  await machine.until('the jump', () => rules().includes('-A FORWARD -j TWILL-FORWARD'))
  assert.match(rules(), '-A TWILL-FORWARD -o twl+ -j ACCEPT')
  await machine.until('the count', () => machine.repairs.includes('accept'))
  assert.match(rules(), '-A FORWARD -j DROP')
})

test('without pools the tunnel`s rules go from the chains', async () => {
  machine.facts = facts({ attachments: [], pools: [], slots: new Map() })
  machine.loop.markDirty('facts')
  await machine.until('the change', () => !rules().includes('twill-vx4'))
  await machine.close()
})

test.run()
