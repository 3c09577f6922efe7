/** What pods ask for, and how they come and go: annotations, bandwidth, probes, static pods, Jobs, names used again. */
import { existsSync, rmSync, writeFileSync } from 'node:fs'
import * as assert from 'uvu/assert'
import { until } from '../../hack/rig/processes.ts'
import { untilLimited } from '../fixtures/kubernetes/bandwidth.ts'
import { untilEvents } from '../fixtures/kubernetes/events.ts'
import { KubernetesLab, type LabPod } from '../fixtures/kubernetes/lab.ts'
import { askHttp, HTTP_PORT } from '../fixtures/kubernetes/netexec.ts'
import { job, netexec, onNode, pod, statefulSet } from '../fixtures/kubernetes/objects.ts'
import { isOver } from '../fixtures/kubernetes/pod-facts.ts'
import { allTraces, type Traces, untilClean } from '../fixtures/kubernetes/traces.ts'
import { readStatus } from '../fixtures/node-state.ts'
import { macOf, v4 } from '../fixtures/talk.ts'

const lab = new KubernetesLab('pods')
const test = lab.suite('pods', { nodes: 2 })

const [NODE, OTHER] = ['node1', 'node2']

/** Of each node, before the first pod of these tests. */
let clean: Traces

const attached = async (node: string): Promise<string[]> =>
  (await readStatus(lab.cluster.rig, node)).pods.flatMap(({ addresses }) => addresses)

const allClean = () => untilClean(lab, clean)

test('a pool for some', async () => {
  clean = await allTraces(lab)
  const pool = {
    apiVersion: 'twill.network/v1alpha1',
    kind: 'IPPool',
    metadata: { name: 'shop' },
    spec: { cidr: '10.77.0.0/24' },
  }
  await lab.twillctl(NODE, ['apply', '-f', '-'], JSON.stringify(pool))
})

test('annotations choose pool, address and MAC', async () => {
  const choosing = pod('choosing', onNode(NODE), { annotations: { 'twill.network/ipv4-pool': 'shop' } })
  const annotations = {
    'twill.network/ipv4-pool': 'shop',
    'twill.network/ip-addresses': '10.77.0.77',
    'twill.network/mac': '02:00:5e:10:00:77',
  }
  const wishing = pod('wishing', onNode(NODE), { annotations })
  const plain = pod('plain', onNode(OTHER))
  await lab.apply(choosing, wishing, plain)
  const [chosen] = (await lab.ready('app=choosing', 1)) as [LabPod]
  assert.match(v4(chosen.addresses), /^10\.77\.0\./)
  const [{ addresses }] = (await lab.ready('app=wishing', 1)) as [LabPod]
  await lab.ready('app=plain', 1)
  assert.is(v4(addresses), '10.77.0.77')
  assert.is(addresses.length, 2, 'IPv6 is of whatever pool there is')
  assert.is(await macOf(lab, 'wishing'), '02:00:5e:10:00:77', 'MAC')
  for (const address of addresses)
    assert.is(await askHttp(lab, 'plain', address, { path: 'hostname' }), 'wishing')
  await lab.remove(choosing, wishing, plain)
})

test('junk in annotations is told by an event of the pod, and runs nowhere', async () => {
  const touched = `/run/touched-${process.pid}`
  const junk: [annotation: string, value: string, said: RegExp][] = [
    ['twill.network/mac', `02:00; touch ${touched}`, /invalid annotation twill\.network\/mac/],
    ['twill.network/ipv4-pool', `$(touch ${touched})`, /invalid annotation twill\.network\/ipv4-pool/],
    ['twill.network/ipv4-pool', 'nowhere', /annotation twill\.network\/ipv4-pool of the pod.*nowhere/],
    ['twill.network/ip-addresses', '10.77.0.300', /invalid annotation twill\.network\/ip-addresses/],
    ['twill.network/ipv4-poool', 'shop', /unknown annotation.*twill\.network\/ipv4-pool/],
  ]
  const pods = junk.map(([key, value], index) =>
    pod(`junk-${index}`, onNode(NODE), { annotations: { [key]: value } }),
  )
  await lab.apply(...pods)
  await untilEvents(
    lab,
    'FailedCreatePodSandBox',
    junk.map(([, , said], index) => ({ pod: `junk-${index}`, said })),
  )
  await lab.remove(...pods)
  for (const path of [lab.node(NODE).path(touched), touched])
    assert.not.ok(existsSync(path), `a shell has run an annotation: ${path} is there`)
  await allClean()
})

test('bandwidth annotations limit what comes and goes', async () => {
  const annotations = { 'kubernetes.io/ingress-bandwidth': '1M', 'kubernetes.io/egress-bandwidth': '1M' }
  const [slow, fast] = [pod('slow', onNode(NODE), { annotations }), pod('fast', onNode(OTHER))]
  await lab.apply(slow, fast)
  for (const name of ['slow', 'fast']) await lab.ready(`app=${name}`, 1)
  await untilLimited(lab, {
    from: 'fast',
    to: 'slow',
    watched: 'slow',
    counter: 'rx_bytes',
    bitsPerSecond: 1e6,
  })
  await untilLimited(lab, {
    from: 'slow',
    to: 'fast',
    watched: 'slow',
    counter: 'tx_bytes',
    bitsPerSecond: 1e6,
  })
  await lab.remove(slow, fast)
})

test('probes of every kind reach pods on a node that drops what it was not told of', async () => {
  const often = { periodSeconds: 1, failureThreshold: 1, timeoutSeconds: 20 }
  const probes = {
    http: { httpGet: { path: '/healthz', port: HTTP_PORT } },
    tcp: { tcpSocket: { port: HTTP_PORT } },
    exec: { exec: { command: ['true'] } },
  }
  const kinds = Object.entries(probes).map(([kind, probe]) => {
    const startupProbe = { ...often, ...probe, failureThreshold: 60 }
    const both = { readinessProbe: { ...often, ...probe }, livenessProbe: { ...often, ...probe } }
    return pod(`probed-${kind}`, { ...onNode(OTHER), containers: [netexec({ startupProbe, ...both })] })
  })
  await lab.node(OTHER).script(FIREWALL)
  try {
    await lab.apply(...kinds)
    for (const kind of Object.keys(probes)) {
      await lab.ready(`app=probed-${kind}`, 1)
      await until(
        async () => (await probeResults(`probed-${kind}`)).successful >= 10,
        60_000,
        () => `probed-${kind} is not probed`,
        500,
      )
      assert.is((await probeResults(`probed-${kind}`)).failed, 0, kind)
    }
  } finally {
    await lab.node(OTHER).script(NO_FIREWALL)
  }
  await lab.remove(...kinds)
})

/** What a node's owner opens for Kubernetes, on his own interface: nothing for pods, nor what they answer. */
const FIREWALL = `
for program in iptables ip6tables; do
  $program -A INPUT -i lo -j ACCEPT
  $program -A INPUT -i eth0 -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
  $program -A INPUT -p tcp --dport 10250 -j ACCEPT
  $program -A INPUT -p udp --dport 4789 -j ACCEPT
  $program -P INPUT DROP
  $program -P FORWARD DROP
done
iptables -A INPUT -i eth0 -p icmp -j ACCEPT
ip6tables -A INPUT -i eth0 -p ipv6-icmp -j ACCEPT`

const NO_FIREWALL = `
for program in iptables ip6tables; do
  $program -P INPUT ACCEPT
  $program -P FORWARD ACCEPT
done`

/** Liveness probes, as kubelet counts them. */
async function probeResults(name: string): Promise<{ successful: number; failed: number }> {
  const metrics = await lab.kubectl('get', '--raw', `/api/v1/nodes/${OTHER}/proxy/metrics/probes`)
  const counted = (result: string) =>
    metrics
      .split('\n')
      .filter(line => line.startsWith('prober_probe_total{') && line.includes(`pod="${name}"`))
      .filter(line => line.includes('probe_type="Liveness"') && line.includes(`result="${result}"`))
      .reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0)
  return { successful: counted('successful'), failed: counted('failed') }
}

test('a static pod has addresses like any other, until its file goes', async () => {
  const file = lab.node(NODE).path('/etc/kubernetes/manifests/standing.yaml')
  writeFileSync(file, JSON.stringify(pod('standing')))
  const [{ addresses }] = (await lab.ready('app=standing', 1)) as [LabPod]
  for (const address of addresses)
    assert.is(await askHttp(lab, OTHER, address, { path: 'hostname' }), `standing-${NODE}`)
  rmSync(file)
  await allClean()
})

test('the pods of a Job give their addresses back when they are done', async () => {
  const done = job('done', { completions: 3, parallelism: 3 })
  await lab.apply(done)
  await lab.kubectl('wait', '--for=condition=Complete', 'job/done', '--timeout=120s')
  const pods = await lab.podFacts('app=done')
  assert.equal(
    pods.map(({ status }) => status.phase),
    ['Succeeded', 'Succeeded', 'Succeeded'],
  )
  const held = pods.flatMap(({ status }) => status.podIPs ?? []).map(({ ip }) => ip)
  assert.is(held.length, 6, 'they had addresses')
  await until(
    async () => {
      const all = (await Promise.all(lab.nodes.map(attached))).flat()
      return held.every(address => !all.includes(address))
    },
    60_000,
    () => `still held: ${held.join(', ')}`,
  )
  await lab.remove(done)
})

test('pods of a StatefulSet replaced under their name, again and again', async () => {
  const set = statefulSet('same', 1, onNode(NODE))
  await lab.apply(set)
  const uids = new Set<string>()
  for (let i = 0; i < 6; i++) {
    await until(
      async () =>
        (await lab.podFacts('app=same')).some(each => !isOver(each) && !uids.has(each.metadata.uid)),
      60_000,
      () => 'same-0 does not come back',
    )
    for (const { metadata } of await lab.podFacts('app=same')) uids.add(metadata.uid)
    // Not awaited: some are gone before their ADD, some in the midst of it.
    if (i < 5) await lab.forget(['same-0'])
  }
  const [{ addresses }] = (await lab.ready('app=same', 1)) as [LabPod]
  for (const address of addresses)
    assert.is(await askHttp(lab, OTHER, address, { path: 'hostname' }), 'same-0')
  await lab.remove(set)
  await allClean()
})

test.run()
