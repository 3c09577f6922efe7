/**
 * The executable on a node whose daemon is stopped, killed or silent, in each form in which it may be installed: the
 * conduit, twill-offline beside it, and twill-offline alone under the name twill, as where there was no C compiler.
 */
import { existsSync, readdirSync } from 'node:fs'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { Cluster } from '../../hack/rig/cluster.ts'
import type { CniResult } from '../../hack/rig/cni-client.ts'
import { until } from '../../hack/rig/processes.ts'
import { Container } from '../fixtures/cni/caller.ts'
import { CONFIG, VERSIONS } from '../fixtures/cni/case.ts'
import type { Target } from '../fixtures/cni/executables.ts'
import { nodeTarget } from '../fixtures/cni/node-target.ts'
import { nodeState, settledState, untilState } from '../fixtures/node-state.ts'

const rig = new Cluster(`tws-away-${process.pid}`)
const test = suite('the executable without its daemon')
const NODE = 'node1'
const machine = () => rig.node(NODE)
const SPOOL = '/var/lib/twill/spool'

let clean = ''
let far = ''
let bystander: { containerId: string; ifName: string }

test.before(async () => {
  await rig.up({ nodes: 2, config: { coolDown: '1s' } })
  far = (await rig.addPod('node2', 'far')).addresses[0] as string
  bystander = await rig.addPod(NODE, 'bystander')
  await machine().script(
    'mkdir /opt/cni/bin/alone; cp -L /opt/cni/bin/twill-offline /opt/cni/bin/alone/twill',
  )
  clean = await settledState(rig, NODE)
})
test.after(async () => {
  await rig.down()
})

const spooled = (): string[] => {
  const folder = machine().path(SPOOL)
  return existsSync(folder) ? readdirSync(folder) : []
}

async function bystanderTalks(): Promise<void> {
  const ping = await rig.exec('bystander', ['ping', '-c1', '-W5', far])
  assert.is(ping.status, 0, ping.stdout)
}

/** The daemon's cookie, pid and all else as they were; nothing of the container. */
async function backToClean(container: Container): Promise<void> {
  await container.remove()
  await rig.startDaemon(NODE)
  await untilState(rig, NODE, clean, 30_000)
  await bystanderTalks()
}

for (const form of ['twill', 'twill-offline', 'alone/twill']) {
  const target: Target = nodeTarget(machine, form)

  const withAttached = (name: string, run: (container: Container, result: CniResult) => Promise<void>) =>
    test(`${form}: ${name}`, async () => {
      const container = await new Container({ name: 'pod' }, { machine: machine(), target }).make()
      try {
        await run(container, await container.add())
      } catch (error) {
        await machine().run(['sh', '-c', 'kill -CONT $(cat /run/twilld.pid)'])
        await rig.startDaemon(NODE)
        await container.call('DEL')
        throw error
      } finally {
        await backToClean(container)
      }
    })

  for (const end of ['stopDaemon', 'killDaemon'] as const)
    withAttached(
      `CNI-009 CNI-100 CNI-135 CNI-158 ADD and CHECK are 11, DEL takes the interface and files itself (${end})`,
      async (container, result) => {
        await rig[end](NODE)
        const other = await new Container({ name: 'other' }, { machine: machine(), target }).make()
        const add = await other.refused('ADD')
        assert.is(add.code, 11)
        assert.match(add.msg, /twilld is not running/)
        await other.quietly('DEL')
        await other.remove()
        assert.is((await container.refused('CHECK', { config: { prevResult: result } })).code, 11)
        // The data path does not need the daemon.
        await container.inside(['ping', '-c1', '-W5', far])
        await container.quietly('DEL')
        assert.not.match(await container.inside(['ip', '-o', 'link']), /eth0/)
        assert.is(spooled().length, 2)
        await container.quietly('DEL', { env: { CNI_NETNS: '' } })
        await bystanderTalks()
        await rig.startDaemon(NODE)
        assert.equal(spooled(), [])
      },
    )

  withAttached(
    'CNI-134 CNI-135 a spool that cannot be written is 11; DEL can be sent again',
    async container => {
      await rig.stopDaemon(NODE)
      await machine().script(`mv ${SPOOL} ${SPOOL}.away; touch ${SPOOL}`)
      try {
        const refusal = await container.refused('DEL')
        assert.is(refusal.code, 11)
        assert.match(refusal.details as string, /spool/)
      } finally {
        await machine().script(`rm ${SPOOL}; mv ${SPOOL}.away ${SPOOL}`)
      }
      await container.quietly('DEL')
    },
  )

  withAttached('CNI-137 DEL without a daemon leaves whoever has the path now', async container => {
    await rig.stopDaemon(NODE)
    await container.remove()
    await machine().must(['ip', 'netns', 'add', container.name])
    await container.inside(['ip', 'link', 'add', 'eth0', 'type', 'bridge'])
    await container.quietly('DEL')
    assert.match(await container.inside(['ip', '-o', 'link']), /eth0/)
  })

  withAttached('CNI-171 STATUS is 0 for 30 s after the daemon stopped, then 50', async container => {
    await container.quietly('STATUS')
    await rig.stopDaemon(NODE)
    await container.quietly('STATUS')
    await machine().must(['touch', '-d', '-31 seconds', '/run/twill/alive'])
    const refusal = await container.refused('STATUS')
    assert.is(refusal.code, 50)
    assert.match(`${refusal.msg} ${refusal.details}`, /not running.*3\d s ago/)
    await rig.startDaemon(NODE)
    await container.quietly('STATUS')
    await container.quietly('DEL')
  })

  withAttached('CNI-161 CNI-168 GC without a daemon is done by the next one', async container => {
    await rig.stopDaemon(NODE)
    await container.quietly('GC')
    assert.equal(spooled(), [])
    const valid = [{ containerID: bystander.containerId, ifname: bystander.ifName }]
    await container.quietly('GC', { config: { 'cni.dev/valid-attachments': valid } })
    assert.is(spooled().length, 1)
  })

  withAttached('CNI-168 CNI-180 CNI-181 VERSION and GC answer without a daemon', async container => {
    await rig.stopDaemon(NODE)
    const version = await container.call('VERSION')
    assert.equal(JSON.parse(version.stdout), { cniVersion: '1.1.0', supportedVersions: VERSIONS })
    await container.quietly('GC')
    await container.quietly('DEL')
  })

  withAttached(
    'CNI-009 a daemon that says nothing for 10 s counts as away; what it does later is taken back',
    async container => {
      const signal = (name: string) => machine().script(`kill -${name} $(cat /run/twilld.pid)`)
      await signal('STOP')
      const other = await new Container({ name: 'other' }, { machine: machine(), target }).make()
      try {
        const [add, del, status] = await Promise.all([
          other.call('ADD'),
          container.call('DEL'),
          other.call('STATUS'),
        ])
        assert.is(JSON.parse(add.stdout).code, 11)
        assert.match(JSON.parse(add.stdout).msg, /does not answer/)
        for (const each of [add, del]) assert.ok(each.milliseconds > 9000, 'it was given its time')
        assert.equal([del.status, del.stdout], [0, ''])
        assert.is(status.status, 0, status.stdout)
        assert.not.match(await container.inside(['ip', '-o', 'link']), /eth0/)
      } finally {
        await signal('CONT')
      }
      await other.remove()
    },
  )
}

test('CNI-170 CNI-174 STATUS answers while a hundred ADDs wait for the kernel', async () => {
  await rig.stopDaemon(NODE)
  await rig.startDaemon(NODE, { env: { TWILL_FAULT: 'add.pod-configured=sleep6000' } })
  const target = nodeTarget(machine, 'twill')
  const names = Array.from({ length: 100 }, (_, i) => `burst${i}`)
  await machine().script(names.map(name => `ip netns add ${name}`).join('\n'))
  const containers = names.map(name => new Container({ name }, { machine: machine(), target }))
  let done = 0
  const adds = containers.map(each => each.add().then(() => done++))
  const times: number[] = []
  while (times.length < 10) {
    const status = await target.run({
      env: { CNI_COMMAND: 'STATUS', CNI_PATH: '/opt/cni/bin' },
      stdin: JSON.stringify(CONFIG),
    })
    assert.equal([status.status, status.stdout], [0, ''])
    assert.is(done, 0, 'no ADD is through yet')
    times.push(status.milliseconds)
  }
  console.log(`STATUS during the burst, ms: ${times.map(Math.round).join(' ')}`)
  await Promise.all(adds)
  await Promise.all(containers.map(each => each.quietly('DEL')))
  await machine().script(names.map(name => `ip netns delete ${name}`).join('\n'))
  // A hundred addresses took another part of the pool, which the node keeps for a while, as a blackhole route.
  await until(
    async () => withoutParts(await nodeState(rig, NODE)) === withoutParts(clean),
    60_000,
    () => 'the burst left something behind',
  )
})

const withoutParts = (state: string): string =>
  state
    .split('\n')
    .filter(line => !line.includes('blackhole'))
    .join('\n')

test.run()
