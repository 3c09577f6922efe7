/** DEL in all its forms, and what CHECK says of each kind of damage, on a node with a real twilld. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { Cluster } from '../../hack/rig/cluster.ts'
import type { CniResult } from '../../hack/rig/cni-client.ts'
import { until } from '../../hack/rig/processes.ts'
import { type Changes, Container } from '../fixtures/cni/caller.ts'
import { VERSIONS } from '../fixtures/cni/case.ts'
import { found } from '../fixtures/cni/found.ts'
import { nodeTarget } from '../fixtures/cni/node-target.ts'
import { settledState, untilState } from '../fixtures/node-state.ts'

const rig = new Cluster(`tws-del-${process.pid}`)
const test = suite('DEL and CHECK against twilld')
const NODE = 'node1'
const machine = () => rig.node(NODE)
const target = nodeTarget(machine, 'twill')

let clean = ''
let far = ''
let bystander: { containerId: string; ifName: string }

test.before(async () => {
  await rig.up({ nodes: 2, config: { coolDown: '1s' } })
  far = (await rig.addPod('node2', 'far')).addresses[0] as string
  bystander = await rig.addPod(NODE, 'bystander')
  clean = await settledState(rig, NODE)
})
test.after(async () => {
  await rig.down()
})

/** Registers a test with an attached container, after which nothing of it is left and the bystander still talks. */
function withAttached(name: string, run: (container: Container, result: CniResult) => Promise<void>): void {
  test(name, async () => {
    const container = await new Container({ name: 'pod' }, { machine: machine(), target }).make()
    try {
      await run(container, await container.add())
    } catch (error) {
      // Or each test after it would fail for what this one left.
      await container.call('DEL')
      throw error
    } finally {
      await container.remove()
    }
    await untilState(rig, NODE, clean, 30_000)
    const ping = await rig.exec('bystander', ['ping', '-c1', '-W5', far])
    assert.is(ping.status, 0, ping.stdout)
  })
}

/** The link awaits its deletion at most for a moment: until then it is down and without addresses. */
async function hasNoLink(container: Container): Promise<void> {
  type Link = { ifname?: string; flags: string[]; addr_info: { scope: string }[] }
  const links = JSON.parse(await container.inside(['ip', '-j', 'address'])) as Link[]
  const link = links.find(({ ifname }) => ifname === 'eth0')
  assert.not(link?.flags.includes('UP'), JSON.stringify(link))
  assert.equal(link?.addr_info.filter(({ scope }) => scope === 'global') ?? [], [])
}

// ---------------------------------------------------------------- DEL

for (const cniVersion of VERSIONS)
  withAttached(`CNI-066 CNI-067 CNI-130 CNI-133 DEL without prevResult at ${cniVersion}`, async container => {
    await container.quietly('DEL', { config: { cniVersion } })
    await hasNoLink(container)
  })

withAttached(
  'CNI-069 CNI-130 DEL with prevResult, and with one of another version',
  async (container, result) => {
    const prevResult = {
      cniVersion: '0.4.0',
      ips: result.ips?.map(({ address }) => ({ version: '4', address })),
    }
    await container.quietly('DEL', { config: { cniVersion: '0.4.0', prevResult } })
    await hasNoLink(container)
  },
)

withAttached('CNI-131 DEL repeated, at once and afterwards', async container => {
  await Promise.all([container.quietly('DEL'), container.quietly('DEL'), container.quietly('DEL')])
  await container.quietly('DEL')
})

withAttached('CNI-132 DEL with empty CNI_NETNS and no prevResult', async container => {
  await container.quietly('DEL', { env: { CNI_NETNS: '' } })
  await hasNoLink(container)
  await container.quietly('DEL', { env: { CNI_NETNS: undefined } })
})

withAttached('CNI-132 CNI-192 DEL with a namespace that has vanished', async container => {
  await container.remove()
  await container.quietly('DEL')
})

withAttached('CNI-132 DEL with a path that is no namespace any more', async container => {
  await container.remove()
  await machine().must(['touch', container.netns])
  await container.quietly('DEL')
  await machine().must(['rm', container.netns])
})

withAttached('CNI-131 DEL though somebody deleted the interface', async container => {
  await container.inside(['ip', 'link', 'delete', 'eth0'])
  await container.quietly('DEL')
})

withAttached('CNI-131 DEL though the interface was renamed', async container => {
  await container.inside(['sh', '-c', 'ip link set eth0 down; ip link set eth0 name other'])
  await container.quietly('DEL')
  await until(
    async () => !(await container.inside(['ip', '-o', 'link'])).includes('other'),
    10_000,
    () => 'the renamed interface is left',
  )
})

withAttached(
  'CNI-137 DEL of a path that is another namespace by now: what is in there is not touched',
  async container => {
    await container.remove()
    await machine().must(['ip', 'netns', 'add', container.name])
    await container.inside(['ip', 'link', 'add', 'eth0', 'type', 'bridge'])
    await container.inside(['ip', 'link', 'set', 'eth0', 'up'])
    await container.inside(['ip', 'address', 'add', '192.0.2.7/24', 'dev', 'eth0'])
    const before = await container.inside(['ip', '-o', 'address'])
    await container.quietly('DEL')
    assert.is(await container.inside(['ip', '-o', 'address']), before)
  },
)

withAttached('CNI-137 nor another pod of ours that has the path now', async container => {
  await container.remove()
  const next = await new Container({ name: 'pod' }, { machine: machine(), target }).make()
  const result = await next.add()
  await container.quietly('DEL')
  await next.inside(['ping', '-c1', '-W5', far])
  await next.quietly('CHECK', { config: { prevResult: result } })
  await next.quietly('DEL')
})

withAttached(
  'CNI-138 DEL of an unknown container, interface or network leaves the others',
  async (container, result) => {
    for (const changes of [
      { env: { CNI_CONTAINERID: 'unknown' } },
      { env: { CNI_IFNAME: 'eth9' } },
      { config: { name: 'unknown' } },
    ])
      await container.quietly('DEL', changes)
    await container.quietly('CHECK', { config: { prevResult: result } })
    await container.quietly('DEL')
  },
)

withAttached('CNI-192 DEL leaves the namespace and what others have in it', async container => {
  await container.inside(['ip', 'link', 'add', 'mine', 'type', 'bridge'])
  await container.quietly('DEL')
  assert.match(await container.inside(['ip', '-o', 'link']), / mine:/)
})

withAttached('CNI-110 ADD after DEL in the same namespace, at once', async container => {
  await container.quietly('DEL')
  const result = await container.add()
  await container.inside(['ping', '-c1', '-W5', far])
  await container.quietly('CHECK', { config: { prevResult: result } })
  await container.quietly('DEL')
})

// ---------------------------------------------------------------- GC

type Listed = { containerId: string; ifName: string }
/** The variables as libcni sets them for GC (CNI-036). */
const gc = (name: string, ...valid: Listed[]): Changes => ({
  env: { CNI_CONTAINERID: '', CNI_NETNS: '', CNI_IFNAME: '' },
  config: {
    name,
    [KEY]: valid.map(({ containerId, ifName }) => ({ containerID: containerId, ifname: ifName })),
  },
})
const KEY = 'cni.dev/valid-attachments'
const listed = (container: Container): Listed => ({ containerId: container.id, ifName: 'eth0' })

withAttached(
  'CNI-160 CNI-161 CNI-173 GC detaches what the list does not have, as DEL does',
  async container => {
    await container.quietly('GC', gc('twill', bystander))
    await hasNoLink(container)
  },
)

withAttached('CNI-160 CNI-161 the older key, and the namespace gone', async container => {
  await container.remove()
  const { [KEY]: valid, ...config } = gc('twill', bystander).config as Record<string, unknown>
  await container.quietly('GC', { config: { ...config, 'cni.dev/attachments': valid } })
})

withAttached('CNI-165 GC after the DELs that libcni sends before it', async container => {
  await container.quietly('DEL')
  await container.quietly('GC', gc('twill', bystander))
})

withAttached('CNI-161 one of the two interfaces of a container', async (container, result) => {
  await container.add({ env: { CNI_IFNAME: 'eth1' } })
  await container.quietly('GC', gc('twill', bystander, listed(container)))
  await container.inside(['ping', '-c1', '-W5', far])
  await container.quietly('CHECK', { config: { prevResult: result } })
  await container.quietly('GC', gc('twill', bystander))
})

withAttached(
  'CNI-161 CNI-163 CNI-164 GC without a list, or of another network, touches nothing; of an absent one neither',
  async (container, result) => {
    await container.quietly('GC')
    await container.quietly('GC', { config: { [KEY]: null } })
    await container.quietly('GC', gc('other'))
    await container.quietly('CHECK', { config: { prevResult: result } })
    await container.add({ env: { CNI_IFNAME: 'eth1' }, config: { name: 'other' } })
    await container.quietly('GC', gc('other'))
    await container.quietly('CHECK', { config: { prevResult: result } })
    await container.quietly('DEL')
  },
)

withAttached('CNI-162 CNI-168 GC though the configuration has an ipam of others', async container => {
  const { env, config } = gc('twill', bystander, listed(container))
  await container.quietly('GC', {
    ...(env ? { env } : {}),
    config: { ...config, ipam: { type: 'host-local' } },
  })
  await container.quietly('DEL')
})

withAttached('CNI-045 CNI-049 CNI-139 DEL though the configuration changed', async container => {
  await container.quietly('DEL', {
    config: { capabilities: { portMappings: true }, ipam: { type: 'host-local' }, mtu: 'x', prevResult: 7 },
  })
})

// ---------------------------------------------------------------- CHECK

const DAMAGE: readonly [what: string, commands: string[], says: RegExp][] = [
  ['the interface is down', ['ip link set eth0 down'], /eth0 is down/],
  ['the IPv4 address is gone', ['ip -4 address flush dev eth0'], /address 10\..* is missing/],
  ['the IPv6 address is gone', ['ip -6 address flush dev eth0 scope global'], /address fd00.* is missing/],
  ['the IPv4 default route is gone', ['ip route delete default'], /IPv4 default route/],
  ['the IPv6 default route is gone', ['ip -6 route delete default'], /IPv6 default route/],
  ['the MAC is another', ['ip link set eth0 address 02:00:5e:00:53:09'], /has MAC 02:00:5e:00:53:09/],
]

for (const [what, commands, says] of DAMAGE)
  withAttached(`CNI-150 CNI-151 CHECK notices that ${what}`, async (container, result) => {
    const config = { prevResult: result }
    await container.quietly('CHECK', { config })
    for (const command of commands) await container.inside(command.split(' '))
    const refusal = await container.refused('CHECK', { config })
    assert.is(refusal.code, 100)
    assert.match(refusal.details as string, says)
    await container.quietly('DEL')
  })

/** While something in the node undoes what the daemon repairs. */
async function damagedOverAndOver(damage: string, during: () => Promise<void>): Promise<void> {
  await machine().script(`(while :; do ${damage} || :; done) >/dev/null 2>&1 & echo $! >/run/damage.pid`)
  try {
    await during()
  } finally {
    await machine().script('kill $(cat /run/damage.pid)')
  }
}

withAttached(
  'CNI-154 CHECK tolerates what is being repaired; nothing of the node stays damaged',
  async (container, result) => {
    const { host } = await found(machine(), container.name, 'eth0')
    const address = result.ips?.[0]?.address as string
    for (const damage of [
      `ip route delete ${address}`,
      `ip neigh flush nud permanent dev ${host.ifname}`,
      `ip link set ${host.ifname} address 02:00:5e:00:53:0a`,
      `ip link set ${host.ifname} down`,
      'nft delete table inet twill',
    ]) {
      await machine().must(damage.split(' '))
      await until(
        async () => (await container.call('CHECK', { config: { prevResult: result } })).status === 0,
        20_000,
        () => `not repaired: ${damage}`,
      )
    }
    await container.inside(['ping', '-c1', '-W5', far])
    await container.quietly('DEL')
  },
)

withAttached(
  "CNI-153 CHECK notices that the node's side is damaged: the table that confines the pod",
  async (container, result) => {
    await damagedOverAndOver('nft delete table inet twill', async () => {
      let said = ''
      await until(
        async () => {
          const outcome = await container.call('CHECK', { config: { prevResult: result } })
          said = outcome.stdout
          return outcome.status === 1
        },
        20_000,
        () => 'CHECK never notices',
      )
      assert.match(said, /nftables table/)
    })
    await until(
      async () => (await container.call('CHECK', { config: { prevResult: result } })).status === 0,
      20_000,
      () => 'not repaired afterwards',
    )
    await container.quietly('DEL')
  },
)

withAttached('CNI-151 CHECK notices another namespace at the path', async (container, result) => {
  await container.remove()
  await machine().must(['ip', 'netns', 'add', container.name])
  const refusal = await container.refused('CHECK', { config: { prevResult: result } })
  assert.match(`${refusal.msg} ${refusal.details}`, /is not the one that was attached/)
  await container.quietly('DEL')
})

withAttached('CNI-094 CHECK of a container that is not attached is code 3', async (container, result) => {
  await container.quietly('DEL')
  assert.is((await container.refused('CHECK', { config: { prevResult: result } })).code, 3)
})

withAttached(
  'CNI-152 CNI-254 CHECK tolerates what later plugins made of the result',
  async (container, result) => {
    const mac = '02:00:5e:00:53:0b'
    await container.inside(['ip', 'link', 'set', 'eth0', 'address', mac])
    await container.inside(['ip', 'route', 'add', '192.0.2.0/24', 'via', '169.254.1.1', 'dev', 'eth0'])
    const [host, pod] = result.interfaces as [object, object]
    const prevResult = {
      ...result,
      interfaces: [host, { ...pod, mac }, { name: 'ifb0', mac: '02:00:5e:00:53:0c' }],
      ips: result.ips?.map(ip => ({ ...ip, interface: -1 })),
      routes: [...(result.routes ?? []), { dst: '192.0.2.0/24', gw: '169.254.1.1' }],
    }
    await container.quietly('CHECK', { config: { prevResult } })
    // Learned, not punished: it still talks.
    await container.inside(['ping', '-c3', '-W5', far])
    await container.quietly('DEL')
  },
)

withAttached(
  'CNI-156 CHECK needs the interface with its sandbox in prevResult',
  async (container, result) => {
    for (const interfaces of [[], [{ name: 'eth0' }], [{ name: 'eth0', sandbox: '/run/netns/other' }]]) {
      const ips = result.ips?.map(({ address }) => ({ address }))
      const refusal = await container.refused('CHECK', {
        config: { prevResult: { ...result, interfaces, ips } },
      })
      assert.match(`${refusal.msg} ${refusal.details}`, /lists no interface eth0 in sandbox/)
    }
    await container.quietly('DEL')
  },
)

withAttached('CNI-151 CHECK needs the addresses in prevResult', async (container, result) => {
  const refusal = await container.refused('CHECK', { config: { prevResult: { ...result, ips: [] } } })
  assert.match(`${refusal.msg} ${refusal.details}`, /does not list the address/)
  await container.quietly('DEL')
})

test('CNI-010 CNI-190 ADDs and DELs of many containers at once keep to their own', async () => {
  const containers = await Promise.all(
    Array.from({ length: 24 }, (_, i) =>
      new Container({ name: `many${i}` }, { machine: machine(), target }).make(),
    ),
  )
  try {
    const results = await Promise.all(containers.map(each => each.add()))
    assert.is(new Set(results.flatMap(({ ips }) => ips?.map(({ address }) => address))).size, 48)
    const half = containers.filter((_, i) => i % 2 === 0)
    const rest = containers.filter((_, i) => i % 2 === 1)
    await Promise.all([
      ...half.map(each => each.quietly('DEL')),
      ...rest.map(each =>
        each.quietly('CHECK', { config: { prevResult: results[containers.indexOf(each)] } }),
      ),
    ])
    for (const each of rest) await each.inside(['ping', '-c1', '-W5', far])
    await Promise.all(rest.map(each => each.quietly('DEL')))
  } finally {
    await Promise.all(containers.map(each => each.remove()))
  }
  await untilState(rig, NODE, clean, 30_000)
})

test('CNI-034 CNI-099 a namespace that means another to the daemon than to the caller is refused', async () => {
  const container = await new Container({ name: 'mine' }, { machine: machine(), target }).make()
  try {
    // The caller's mount namespace has another namespace at the very path.
    const swap = `ip netns add theirs; mount --make-rprivate /; mount --bind /run/netns/theirs ${container.netns}`
    const call: Changes['env'] = {
      CNI_COMMAND: 'ADD',
      CNI_CONTAINERID: container.id,
      CNI_NETNS: container.netns,
    }
    const set = Object.entries({ ...call, CNI_IFNAME: 'eth0' }).map(([key, value]) => `${key}=${value}`)
    const config = '{"cniVersion":"1.1.0","name":"twill","type":"twill"}'
    const script = `${swap}; echo '${config}' | env ${set.join(' ')} /opt/cni/bin/twill`
    const outcome = await machine().run(['unshare', '-m', 'sh', '-c', script])
    assert.is(JSON.parse(outcome.stdout).code, 8, outcome.stdout)
    assert.not.match(await container.inside(['ip', '-o', 'link']), /eth0/)
  } finally {
    await container.remove()
    await machine().run(['ip', 'netns', 'delete', 'theirs'])
  }
  await untilState(rig, NODE, clean, 30_000)
})

test.run()
