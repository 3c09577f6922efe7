/**
 * Calls in any order while the daemon is killed, stopped and started, two calls for one container at once among them:
 * whoever was told of success has what he was told of, and in the end nothing is left. The seed is printed.
 */
import { randomBytes, randomInt } from 'node:crypto'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { Cluster } from '../../hack/rig/cluster.ts'
import { execPlugin } from '../../hack/rig/cni-client.ts'
import { until } from '../../hack/rig/processes.ts'
import { SeededRandom } from '../fixtures/manual-clock.ts'
import { settledState, untilState } from '../fixtures/node-state.ts'

const rig = new Cluster(`twx-${process.pid}`)
const test = suite('churn')
const NODE = 'node1'
const CONFIG = JSON.stringify({ cniVersion: '1.0.0', name: 'twill', type: 'twill' })
const CONTAINERS = 8
const ROUNDS = 12

const seed = Number(process.env.TWILL_SEED ?? randomInt(2 ** 31))
const random = new SeededRandom(seed)
const chance = (share: number) => random.fraction() < share
const oneOf = <T>(values: readonly T[]): T => values[Math.floor(random.fraction() * values.length)] as T

test.before(async () => {
  await rig.up({ nodes: 1, config: { coolDown: '1s', heartbeatInterval: '1s' } })
  for (let n = 0; n < CONTAINERS; n++) await rig.node(NODE).must(['ip', 'netns', 'add', `churn${n}`])
})
test.after(async () => {
  await rig.down()
})

const containers = Array.from({ length: CONTAINERS }, (_, n) => ({
  n,
  call: {
    containerId: randomBytes(16).toString('hex'),
    netns: `/run/netns/churn${n}`,
    ifName: 'eth0',
    args: {},
  },
  /** What its caller was last told: addresses, [] for gone, null when that is not known. */
  told: [] as string[] | null,
}))
type Container = (typeof containers)[number]

const plugin = (command: string, { call }: Container) =>
  execPlugin(rig.node(NODE), command, 'twill', call, CONFIG)

async function add(container: Container): Promise<void> {
  const before = container.told
  container.told = null
  const { status, stdout } = await plugin('ADD', container)
  if (status === 0)
    container.told = (JSON.parse(stdout).ips as { address: string }[]).map(
      ({ address }) => address.split('/')[0] as string,
    )
  else if (before !== null && before.length > 0 && JSON.parse(stdout).code === 101) container.told = before
}

async function del(container: Container): Promise<void> {
  container.told = null
  if ((await plugin('DEL', container)).status === 0) container.told = []
}

/** One after the other for one container, sometimes two at once: then nothing is known until the next DEL. */
async function callsOf(container: Container): Promise<void> {
  for (let i = 0; i < 3; i++) {
    if (chance(0.2)) {
      await Promise.all([plugin('ADD', container), plugin(oneOf(['ADD', 'DEL']), container)])
      container.told = null
    } else if (container.told === null || chance(0.4)) await del(container)
    else await add(container)
  }
}

async function disturb(): Promise<void> {
  await new Promise(resolve => setTimeout(resolve, 400 * random.fraction()))
  if (chance(0.3)) return
  if (chance(0.5)) await rig.killDaemon(NODE)
  else await rig.stopDaemon(NODE)
  await rig.startDaemon(NODE)
}

const isReached = async (address: string) =>
  (await rig.exec(NODE, ['ping', '-c1', '-W1', address])).status === 0

async function checkWhatWasTold(): Promise<void> {
  for (const { n, told } of containers)
    for (const address of told ?? [])
      await until(
        () => isReached(address),
        10_000,
        () => `seed ${seed}: container ${n} was given ${address} and is not reached`,
      )
  const given = containers.flatMap(({ told }) => told ?? [])
  assert.is(new Set(given).size, given.length, `seed ${seed}: an address was given twice`)
}

test('calls in any order, daemons that end: what was told is true, and nothing is left', async () => {
  const baseline = await settledState(rig, NODE)
  for (let round = 0; round < ROUNDS; round++) {
    await Promise.all([...containers.map(callsOf), disturb()])
    await checkWhatWasTold()
  }
  for (const container of containers) await del(container)
  assert.ok(
    containers.every(({ told }) => told?.length === 0),
    `seed ${seed}: a DEL failed`,
  )
  await untilState(rig, NODE, baseline)
  for (const { n } of containers)
    assert.is((await rig.exec(NODE, ['ip', '-n', `churn${n}`, 'link', 'show', 'eth0'])).status, 1)
})

test.run()
