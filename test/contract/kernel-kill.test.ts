/**
 * A process killed between any two steps of attach or detach: who comes after, remembering nothing but the
 * attachment's name, recognises what is left as ours and takes it away. Needs root.
 */
import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { POD_ALIAS_PREFIX, POD_LINK_PREFIX, ROUTE_PROTOCOL } from '../../kernel/ownership.ts'
import { FAULT_POINTS } from '../../lib/fault.ts'
import { enterOwnNamespaces, podSpec, realWorld, type World } from './kernel-world.ts'

enterOwnNamespaces()

const CHILD = fileURLToPath(new URL('./kernel-kill-child.ts', import.meta.url))
/** The others are the daemon's, and tested there. */
const OUTSIDE = /received|address-taken|written|kernel-done|answered|reaped|released/
const points = [...FAULT_POINTS.add, ...FAULT_POINTS.del].filter(point => !OUTSIDE.test(point))

const test = suite('killed at every step')
let world: World

test.before(async () => {
  world = await realWorld()
})
test.after(() => world.kernel.close())

for (const point of points)
  test(`at ${point}`, async () => {
    const { kernel } = world
    const netns = world.addNamespace('killed')
    const { signal, stderr } = spawnSync(process.execPath, ['--import', 'tsx', CHILD, netns.path], {
      env: { ...process.env, TWILL_FAULT: point },
      encoding: 'utf8',
    })
    assert.is(signal, 'SIGKILL', stderr)
    const left = (await kernel.readLinks()).filter(link => link.name !== 'lo')
    // The policy comes before the pair.
    assert.is(left.length, point === 'add.policy-in-force' ? 0 : 1)
    for (const { name, alias } of left) {
      assert.ok(name.startsWith(POD_LINK_PREFIX), name)
      assert.ok(alias?.startsWith(POD_ALIAS_PREFIX), `${alias}`)
    }
    await kernel.detachPod(podSpec(1, netns), [])
    await kernel.reapLinks([])
    assert.equal(
      (await kernel.readLinks()).map(({ name }) => name),
      ['lo'],
    )
    assert.equal(await kernel.readRoutes({ protocol: ROUTE_PROTOCOL }), [])
    assert.is((await kernel.inspectPod(netns, 'eth0')).pod, null)
    world.removeNamespace('killed')
  })

test.run()
