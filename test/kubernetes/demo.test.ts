/** npm run demo:kubernetes: what it says, and that it leaves nothing. */
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { KubernetesCluster } from '../../hack/rig/kubernetes/cluster.ts'
import { ROOT } from '../../hack/rig/layout.ts'

const rig = new KubernetesCluster(`twk-${process.pid}`)
const test = suite('demo of Kubernetes')

test.after(async () => {
  await rig.down()
})

test('pods on two nodes talk over both families, a Service answers, and everything comes down', () => {
  const env = { ...process.env, TWILL_CLUSTER: rig.name, NO_COLOR: '1' }
  const demo = spawnSync(join(ROOT, 'hack/demo-kubernetes'), { env, encoding: 'utf8', timeout: 400_000 })
  const { status, stdout, stderr } = demo
  assert.is(status, 0, stdout + stderr)
  const [, one, other] = /are ready: (\S+) on node1, (\S+) on node2 /.exec(stdout) ?? []
  const [, first, second] = one! < other! ? ['', one, other] : ['', other, one]
  const heard = [...stdout.matchAll(/on node1 asks (\S+) on node2: I am (\S+), you are (\S+)/g)]
  assert.equal(
    heard.map(([, , who]) => who),
    [other, other],
    stdout,
  )
  assert.equal(
    heard.map(([, address, , seen]) => [address!.includes(':'), seen!.includes(':')]),
    [
      [false, false],
      [true, true],
    ],
  )
  assert.is(
    stdout.match(new RegExp(`until each has answered: ${first} and ${second}`, 'g'))?.length,
    3,
    stdout,
  )
  assert.match(stdout, /^pods-v4 +10\.244\.0\.0\/16 +26 +Always +Datastore /m, stdout)
  assert.match(stdout, /^pods-v6 +fd00:10:244::\/112 +122 +Always +Datastore /m, stdout)
  assert.match(stdout, /exec -n twill-system ds\/twilld -- twillctl get nodes\n.*NAME.*\n.*node1 /, stdout)
  assert.match(stdout, /dropped by the underlay.*: (\S+ 0(, )?)+\n/, stdout)
  assert.match(stdout, /nothing is left behind/, stdout)
  assert.equal(rig.leftovers(), [])
})

test.run()
