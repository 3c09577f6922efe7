/** Daemons that must not start or must not go on: each says why, and who runs already is not disturbed. */

import { readFileSync } from 'node:fs'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { Cluster } from '../../hack/rig/cluster.ts'
import { daemonLog, writeDaemonConfig } from '../../hack/rig/daemon.ts'
import { until } from '../../hack/rig/processes.ts'
import { differences, kernelState, settledKernel } from '../fixtures/kernel-state.ts'
import { nodeState, readStatus, untilState } from '../fixtures/node-state.ts'

const rig = new Cluster(`twr-g-${process.pid}`)
const test = suite('refusal: daemons')
const NODE = 'node1'
const BOUND_MS = 30_000

test.before(async () => {
  await rig.up({ nodes: 2, config: { heartbeatInterval: '500ms' } })
  await rig.addPod(NODE, 'bystander')
  await rig.addPod('node2', 'far')
})
test.after(async () => {
  await rig.down()
})

const twilld = (args: string[], env: Record<string, string> = {}) =>
  rig.node(NODE).run(['timeout', '-s', 'KILL', '20', 'twilld', ...args], {
    env: { ...rig.node(NODE).environment, ...env },
  })

async function undisturbed(work: () => Promise<void>): Promise<void> {
  const kernel = await settledKernel(rig, NODE)
  const node = await nodeState(rig, NODE)
  const { pid, startedAt } = (await readStatus(rig, NODE)).node
  await work()
  await untilState(rig, NODE, node, BOUND_MS)
  assert.is(differences(kernel, await kernelState(rig, NODE)), '')
  assert.equal((({ pid, startedAt }) => [pid, startedAt])((await readStatus(rig, NODE)).node), [
    pid,
    startedAt,
  ])
  const ping = await rig.exec('bystander', ['ping', '-c1', '-W3', rig.pod('far').addresses[0] as string])
  assert.is(ping.status, 0, ping.stdout)
}

test("a second daemon on a node: exit 1 naming the first one's process", async () => {
  await undisturbed(async () => {
    const { pid } = (await readStatus(rig, NODE)).node
    const elsewhere: string[][] = [[], ['--run-dir', '/run/elsewhere']]
    for (const flags of elsewhere) {
      const second = await twilld(['--config', '/etc/twill/twilld.yaml', ...flags])
      assert.is(second.status, 1, second.stdout + second.stderr)
      assert.match(second.stderr + second.stdout, new RegExp(`\\b${pid}\\b`), flags.join(' '))
    }
  })
})

test('two machines with one name: the second is refused naming both', async () => {
  await rig.up({ nodes: 3, daemons: false })
  writeDaemonConfig(rig.node('node3'), { heartbeatInterval: '500ms', nodeName: NODE })
  await undisturbed(async () => {
    const { uid } = (await readStatus(rig, NODE)).node
    await rig.startDaemon('node3', { wait: false })
    await until(
      () => rig.node('node3').servicePid('twilld') === undefined,
      BOUND_MS,
      () => 'the second machine goes on',
    )
    const log = readFileSync(daemonLog(rig.node('node3')), 'utf8')
    assert.match(
      log,
      /node name node1 is taken by a machine that lives: this one is \S+, the other one is \S+/,
    )
    assert.ok(log.includes(uid), log)
  })
  const links = await rig.exec('node3', ['ls', '/sys/class/net'])
  assert.not.match(links.stdout, /twl|twill/, 'nothing was built')
})

test('a wrong configuration: exit 2, and a line with source, field, value and what was expected', async () => {
  const machine = rig.node(NODE)
  const wrong: [string, string[], Record<string, string>, RegExp][] = [
    ['nodName: x', [], {}, /\/run\/wrong\.yaml.*nodName/],
    ['vxlan: { vni: 0 }', [], {}, /\/run\/wrong\.yaml.*vxlan\.vni.*0.*1/],
    ['coolDown: soon', [], {}, /\/run\/wrong\.yaml.*coolDown.*soon.*500ms/],
    ['underlay: { interface: eth0, reach: 192.168.77.1 }', [], {}, /underlay.*not both/],
    ['[a, b]', [], {}, /\/run\/wrong\.yaml.*expected a table/],
    ['a: b: c', [], {}, /\/run\/wrong\.yaml: not YAML/],
    ['', [], { TWILL_COOLDOWN: '1s' }, /TWILL_COOLDOWN.*TWILL_COOL_DOWN/],
    ['', [], { TWILL_VXLAN_PORT: '99999' }, /TWILL_VXLAN_PORT.*vxlan\.port.*99999.*65535/],
    ['', ['--log-level', 'loud'], {}, /--log-level.*logLevel.*loud.*debug/],
    ['', ['--colour', 'red'], {}, /colour.*--help/],
  ]
  await undisturbed(async () => {
    for (const [text, args, env, expected] of wrong) {
      await machine.run(['sh', '-c', 'cat >/run/wrong.yaml'], { input: `${text}\n` })
      const given = JSON.stringify([text, args, env])
      const result = await twilld(['--config', '/run/wrong.yaml', ...args], env)
      assert.is(result.status, 2, `${given}: ${result.stderr}`)
      assert.match(result.stderr, expected, given)
    }
    const absent = await twilld(['--config', '/run/absent.yaml'])
    assert.is(absent.status, 2, absent.stderr)
    assert.match(absent.stderr, /\/run\/absent\.yaml/)
  })
})

test.run()
