/** The first command of the README: what it says, and that it leaves nothing. */
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { Cluster } from '../../hack/rig/cluster.ts'
import { ROOT } from '../../hack/rig/layout.ts'

const rig = new Cluster(`twf-${process.pid}`)
const test = suite('demo')

const demo = (...args: string[]) =>
  spawnSync(join(ROOT, 'hack/demo'), args, {
    env: { ...process.env, TWILL_CLUSTER: rig.name, NO_COLOR: '1' },
    encoding: 'utf8',
    timeout: 240_000,
  })

test.after(async () => {
  await rig.down()
})

test('it tells that pods talk over both families, and takes everything down', () => {
  const { status, stdout, stderr } = demo()
  assert.is(status, 0, stdout + stderr)
  assert.is(stdout.match(/client pings web at \S+: 3 of 3 answered/g)?.length, 2, stdout)
  const [web, client] = ['web', 'client'].map(
    name => new RegExp(`ADD ${name} on node\\d: (\\S+) and (\\S+)`).exec(stdout)!,
  )
  for (const family of [1, 2]) {
    const line = stdout.split('\n').find(text => text.includes(`talks TCP to web at ${web![family]}:`))
    assert.match(line ?? '', `"hello from the other node", seen as ${client![family]}`)
  }
  assert.match(stdout, /dropped by the underlay.*: (\S+ 0(, )?)+\n/)
  assert.match(stdout, /nothing is left behind/)
  assert.equal(rig.leftovers(), [])
})

test('--keep leaves it up, and the next demo takes it away first', () => {
  assert.is(demo('--keep').status, 0)
  assert.equal(
    rig.pods().map(pod => pod.name),
    ['web', 'client'],
  )
  const again = demo()
  assert.is(again.status, 0, again.stdout + again.stderr)
  assert.match(again.stdout, /an earlier rig goes first/)
  assert.equal(rig.leftovers(), [])
})

test.run()
