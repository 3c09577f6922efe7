/**
 * The demo: two nodes, a pod on each, attached as a runtime does it, ping and TCP across the overlay, IPv4 and IPv6.
 * Each line says what happened and how long it took.
 */
import { Cluster } from './cluster.ts'
import { nodeLayout, UNDERLAY } from './layout.ts'
import { printStatus } from './status.ts'
import { line, play, quote, say, timed } from './story.ts'

const TCP_PORT = '7777'

async function output(cluster: Cluster, name: string, command: string[], input = ''): Promise<string> {
  const result = await cluster.exec(name, command, { input, timeoutMs: 15_000 })
  if (result.status !== 0)
    throw new Error(`${name}: ${command.join(' ')}: exit ${result.status}: ${result.stderr || result.stdout}`)
  return result.stdout
}

async function ping(cluster: Cluster, from: string, address: string): Promise<string> {
  const said = await output(cluster, from, ['ping', '-c', '3', '-i', '0.05', '-W', '2', address])
  const [, received] = /(\d+) received/.exec(said) ?? []
  const [, average] = /= [\d.]+\/([\d.]+)/.exec(said) ?? []
  return `${received} of 3 answered, ${average} ms`
}

/** The server answers who it saw, so that a masqueraded source would show. */
async function tcp(cluster: Cluster, from: string, to: string, address: string): Promise<string> {
  const server = cluster.exec(to, ['nc', '-l', '-n', '-v', '-N', ...family(address), '-p', TCP_PORT], {
    input: 'hello from the other node\n',
    timeoutMs: 10_000,
  })
  const client = [
    'sh',
    '-c',
    `for i in 1 2 3 4 5 6 7 8 9; do nc -d -n -w 3 ${address} ${TCP_PORT} && exit 0; sleep 0.05; done; exit 1`,
  ]
  const heard = await output(cluster, from, client)
  const seen = /Connection received on (\S+)/.exec((await server).stderr)?.[1]
  if (heard === '' || seen === undefined) throw new Error(`${from} heard nothing from ${to} at ${address}`)
  return `heard "${heard.trim()}", seen as ${seen}`
}

const family = (address: string): string[] => [address.includes(':') ? '-6' : '-4']

async function story(cluster: Cluster): Promise<void> {
  say('A cluster: etcd, an underlay that drops pod addresses, two nodes with a twilld each')
  await cluster.up({ nodes: 2, onStep: line })

  say('A pod on each node, by executing /opt/cni/bin/twill as a container runtime does')
  for (const [node, name] of [
    ['node1', 'web'],
    ['node2', 'client'],
  ] as const)
    await timed(`ADD ${name} on ${node}`, async () =>
      (await cluster.addPod(node, name)).addresses.join(' and '),
    )

  say('Across the overlay')
  const web = cluster.pod('web')
  for (const address of web.addresses) {
    await timed(`client pings web at ${address}`, () => ping(cluster, 'client', address))
    await timed(`client talks TCP to web at ${address}`, () => tcp(cluster, 'client', 'web', address))
  }
  const [first] = web.addresses
  await timed(`node2 itself pings web at ${first}`, () => ping(cluster, 'node2', first!))
  await timed(`web pings node2 at ${nodeLayout('node2').v4}`, () =>
    ping(cluster, 'web', nodeLayout('node2').v4),
  )
  await timed(`web pings the world outside at ${UNDERLAY.outside.v4}`, () =>
    ping(cluster, 'web', UNDERLAY.outside.v4),
  )

  say('What stands')
  await printStatus(cluster)
  for (const words of ['twillctl get nodes', 'twillctl get ippools', 'ip route', 'ip -6 route'])
    quote(`node1$ ${words}`, await output(cluster, 'node1', words.split(' ')))
}

async function deletePods(cluster: Cluster): Promise<void> {
  for (const pod of cluster.pods())
    await timed(`DEL ${pod.name}`, async () => cluster.deletePod(pod.name).then(() => ''))
}

const cluster = new Cluster(process.env.TWILL_CLUSTER ?? 'twill')
await play({
  title: 'Twill',
  rig: cluster,
  story: () => story(cluster),
  ending: () => deletePods(cluster),
  next: () =>
    ['status', `exec client -- ping ${cluster.pod('web').addresses[0]}`, 'down'].map(
      words => `hack/cluster ${words}`,
    ),
})
