/**
 * The node's journal is damaged while the daemon is away: in the middle, at its end, altogether, or gone. Pods keep
 * running, nobody gets their addresses, the damaged file is kept and status says so; DEL works for all of them.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { Cluster } from '../../hack/rig/cluster.ts'
import { until } from '../../hack/rig/processes.ts'
import { readHolders, readStatus } from '../fixtures/node-state.ts'
import { startTraffic } from '../fixtures/traffic.ts'

const rig = new Cluster(`twr-j-${process.pid}`)
const test = suite('refusal: the journal')
const NODE = 'node1'
const JOURNAL = '/var/lib/twill/journal'
const BOUND_MS = 40_000

test.before(async () => {
  await rig.up({ nodes: 2, config: { coolDown: '1s', heartbeatInterval: '500ms' } })
  await rig.addPod('node2', 'far')
})
test.after(async () => {
  await rig.down()
})

async function ledgered(names: readonly string[]): Promise<void> {
  await until(
    async () => {
      const holders = await readHolders(rig, (await readStatus(rig, NODE)).node.uid)
      return names.every(name => rig.pod(name).addresses.every(address => holders.has(address)))
    },
    BOUND_MS,
    () => 'the ledger does not follow',
  )
}

const kept = async () =>
  (await rig.node(NODE).run(['sh', '-c', `ls ${JOURNAL}.damaged-*`])).stdout
    .trim()
    .split('\n')
    .filter(Boolean)

interface Damage {
  what: string
  /** null: the file goes. */
  do(journal: Buffer): Buffer | null
  /** The file is kept and status shows a condition. */
  noticed: boolean
}

/** Inside the JSON of the line in which this text stands last. */
function spoil(journal: Buffer, text: string): Buffer {
  const at = journal.lastIndexOf(text)
  assert.ok(at > 0, `${text} in the journal`)
  const spoiled = Buffer.from(journal)
  spoiled.write('X', at)
  return spoiled
}

const DAMAGES: Damage[] = [
  {
    what: 'a line in the middle: the record of a pod',
    do: journal => spoil(journal, '"t":"attach"'),
    noticed: true,
  },
  {
    what: 'its end: cut in mid-record',
    do: journal => journal.subarray(0, journal.length - 25),
    noticed: true,
  },
  { what: "the node's identity", do: journal => spoil(journal, '"t":"node"'), noticed: true },
  { what: 'everything: noise', do: journal => Buffer.alloc(journal.length, 'noise \n'), noticed: true },
  { what: 'everything: the file is empty', do: () => Buffer.alloc(0), noticed: false },
  { what: 'everything: the file is gone', do: () => null, noticed: false },
]

for (const [index, damage] of DAMAGES.entries())
  test(`damaged: ${damage.what}`, async () => {
    const names = [`a${index}`, `b${index}`]
    for (const name of names) await rig.addPod(NODE, name)
    await ledgered(names)
    const before = await readStatus(rig, NODE)
    const files = await kept()
    const traffic = await startTraffic(rig, 'far', names[0] as string)
    await rig.stopDaemon(NODE)
    const path = rig.node(NODE).path(JOURNAL)
    const journal = damage.do(readFileSync(path))
    if (journal === null) await rig.node(NODE).script(`rm ${JOURNAL}`)
    else writeFileSync(path, journal)
    await rig.startDaemon(NODE, { timeoutMs: BOUND_MS })
    const after = await readStatus(rig, NODE)
    assert.is(after.node.uid, before.node.uid)
    assert.is(
      after.conditions.some(({ type }) => type === 'JournalDamaged'),
      damage.noticed,
      JSON.stringify(after.conditions),
    )
    assert.is((await kept()).length, files.length + (damage.noticed ? 1 : 0))
    await rig.killDaemon(NODE)
    await rig.startDaemon(NODE, { timeoutMs: BOUND_MS })
    const newcomer = await rig.addPod(NODE, `c${index}`)
    const taken = names.flatMap(name => rig.pod(name).addresses)
    assert.equal(
      newcomer.addresses.filter(address => taken.includes(address)),
      [],
    )
    await ledgered([...names, `c${index}`])
    await traffic.stop()
    for (const name of [...names, `c${index}`])
      for (const address of rig.pod(name).addresses) {
        const ping = await rig.exec('far', ['ping', '-c1', '-W3', address])
        assert.is(ping.status, 0, `${name}: ${ping.stdout}`)
      }
    const pods = [...names, `c${index}`].flatMap(name => rig.pod(name).addresses)
    for (const name of [...names, `c${index}`]) await rig.deletePod(name)
    await until(
      async () => {
        const { node, overlay } = await readStatus(rig, NODE)
        const left = [...(await readHolders(rig, node.uid)).keys()]
        return (
          !left.some(address => pods.includes(address)) &&
          overlay.tunnel.every(address => left.includes(address))
        )
      },
      BOUND_MS,
      () => 'addresses of deleted pods stay in the ledger',
    )
    const links = await rig.exec(NODE, ['sh', '-c', 'ls /sys/class/net | grep ^twl[0-9a-f] || :'])
    assert.is(links.stdout, '', 'links of deleted pods')
  })

test.run()
