/**
 * The table of what may be expected at the executable's border (test/fixtures/cni/cases.ts), in both forms, against a
 * real twilld on a node of the rig. Every ADD that succeeds really attaches; afterwards the node is as it was.
 */
import { suite } from 'uvu'
import { Cluster } from '../../hack/rig/cluster.ts'
import { nodeTarget } from '../fixtures/cni/node-target.ts'
import { proveProtocol } from '../fixtures/cni/protocol.ts'
import { settledState, untilState } from '../fixtures/node-state.ts'

const rig = new Cluster(`tws-proto-${process.pid}`)
const test = suite('executable against twilld')
const NODE = 'node1'
let clean = ''

test.before(async () => {
  await rig.up({ nodes: 1, config: { coolDown: '1s' } })
  await rig.node(NODE).must(['ip', 'netns', 'add', 'protocol'])
  clean = await settledState(rig, NODE)
})
test.after(async () => {
  await rig.down()
})

for (const form of ['twill', 'twill-offline'] as const) {
  proveProtocol(
    test,
    nodeTarget(() => rig.node(NODE), form),
    {
      netns: '/run/netns/protocol',
      hostNetns: '/proc/1/ns/net',
      detach: true,
    },
  )
  test(`${form}: CNI-130 nothing of all that is left`, () => untilState(rig, NODE, clean, 30_000))
}

test.run()
