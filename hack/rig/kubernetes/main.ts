/** hack/kubernetes: from what was typed (grammar.ts) to calls of KubernetesCluster. Exit status 2 for a wrong word, 1 for what went wrong. */
import { asksForHelp, UsageError } from '../grammar.ts'
import { KubernetesCluster } from './cluster.ts'
import { type Invocation, parse, USAGE, type Verb } from './grammar.ts'

type Handler = (cluster: KubernetesCluster, invocation: Invocation) => Promise<number>

const onStep = (what: string, ms: number) => console.log(`${what.padEnd(52)} ${ms.toFixed(0).padStart(6)} ms`)

async function up(cluster: KubernetesCluster, { nodes, wishes }: Invocation): Promise<number> {
  await cluster.up({ nodes, ...wishes, onStep })
  return 0
}

async function down(cluster: KubernetesCluster): Promise<number> {
  const removed = await cluster.down()
  for (const line of removed) console.log(`removed ${line}`)
  if (removed.length === 0) console.log(`nothing to remove: there is no rig "${cluster.name}"`)
  return leftovers(cluster)
}

async function leftovers(cluster: KubernetesCluster): Promise<number> {
  const found = cluster.leftovers()
  for (const line of found) console.log(line)
  return found.length > 0 ? 1 : 0
}

const kubectl = async (cluster: KubernetesCluster, args: readonly string[]): Promise<number> =>
  (await cluster.kubectl(args, { inherit: true })).status

async function status(cluster: KubernetesCluster): Promise<number> {
  if (!cluster.exists) {
    console.log(`there is no Kubernetes rig "${cluster.name}" (hack/kubernetes up)`)
    return 0
  }
  for (const name of cluster.nodes) if (!cluster.node(name).running) console.log(`${name} is stopped`)
  const nodes = await kubectl(cluster, ['get', 'nodes', '-o', 'wide'])
  console.log()
  return nodes || (await kubectl(cluster, ['get', 'pods', '-A', '-o', 'wide']))
}

const done = async (work: Promise<unknown>): Promise<number> => {
  await work
  return 0
}

const HANDLERS: Record<Verb, Handler> = {
  up,
  down,
  status,
  leftovers,
  kubectl: (cluster, { command }) => kubectl(cluster, command),
  twillctl: async (cluster, { name, command }) =>
    (await cluster.twillctl(name, command, { inherit: true })).status,
  exec: async (cluster, { name, command }) =>
    (await cluster.rig.exec(name, command, { inherit: true })).status,
  'node stop': (cluster, { name }) => done(cluster.stopNode(name)),
  'node start': (cluster, { name }) => done(cluster.startNode(name, onStep)),
}

async function main(): Promise<number> {
  try {
    const argv = process.argv.slice(2)
    if (!['kubectl', 'twillctl'].includes(argv[0] ?? '') && asksForHelp(argv)) {
      console.log(USAGE)
      return 0
    }
    const invocation = parse(argv)
    if (process.getuid?.() !== 0)
      throw new Error('hack/kubernetes needs root: it makes network and mount namespaces')
    return await HANDLERS[invocation.verb](
      new KubernetesCluster(process.env.TWILL_CLUSTER ?? 'twill'),
      invocation,
    )
  } catch (error) {
    console.error(error instanceof UsageError ? `${error.message}\n${USAGE}` : (error as Error).message)
    return error instanceof UsageError ? 2 : 1
  }
}

process.exit(await main())
