/** hack/cluster: from what was typed (grammar.ts) to calls of Cluster. Exit status 2 for a wrong word, 1 for what went wrong. */
import { Cluster } from './cluster.ts'
import { asksForHelp, type Invocation, parse, USAGE, UsageError, type Verb } from './grammar.ts'
import { printStatus } from './status.ts'

type Handler = (cluster: Cluster, invocation: Invocation, first: string, second: string) => Promise<number>

const done = async (work: Promise<unknown>): Promise<number> => {
  await work
  return 0
}

async function up(cluster: Cluster, { nodes, store, machinesOnly }: Invocation): Promise<number> {
  const onStep = (what: string, ms: number) =>
    console.log(`${what.padEnd(44)} ${ms.toFixed(0).padStart(6)} ms`)
  const size = nodes === undefined ? {} : { nodes }
  await cluster.up({ ...size, ...(store && { store }), daemons: !machinesOnly, onStep })
  return 0
}

async function down(cluster: Cluster): Promise<number> {
  const removed = await cluster.down()
  for (const line of removed) console.log(`removed ${line}`)
  if (removed.length === 0) console.log(`nothing to remove: there is no rig "${cluster.name}"`)
  const left = cluster.leftovers()
  for (const line of left) console.error(`left: ${line}`)
  return left.length > 0 ? 1 : 0
}

async function exec(cluster: Cluster, { command }: Invocation, name: string): Promise<number> {
  const { status } = await cluster.exec(name, command, { inherit: true })
  return status
}

async function podAdd(cluster: Cluster, invocation: Invocation, node: string, name: string): Promise<number> {
  const { namespace, labels } = invocation
  const pod = await cluster.addPod(node, name, { ...(namespace !== undefined && { namespace }), labels })
  for (const address of pod.addresses) console.log(address)
  return 0
}

async function leftovers(cluster: Cluster): Promise<number> {
  const found = cluster.leftovers()
  for (const line of found) console.log(line)
  return found.length > 0 ? 1 : 0
}

async function stopDaemon(cluster: Cluster, node: string, signal: 'TERM' | 'KILL'): Promise<number> {
  const was = await (signal === 'TERM' ? cluster.stopDaemon(node) : cluster.killDaemon(node))
  if (!was) console.log(`${node}: twilld was not running`)
  return 0
}

const HANDLERS: Record<Verb, Handler> = {
  up,
  down,
  status: cluster => done(printStatus(cluster)),
  leftovers,
  exec,
  'pod add': podAdd,
  'pod del': (cluster, _, name) => done(cluster.deletePod(name)),
  'daemon start': (cluster, _, node) => done(cluster.startDaemon(node)),
  'daemon stop': (cluster, _, node) => stopDaemon(cluster, node, 'TERM'),
  'daemon kill': (cluster, _, node) => stopDaemon(cluster, node, 'KILL'),
  'store start': cluster => done(cluster.startStore()),
  'store stop': cluster => done(cluster.stopStore()),
  'node stop': (cluster, _, node) => done(cluster.stopNode(node)),
  'node start': (cluster, _, node) => done(cluster.startNode(node)),
  'node replace': (cluster, _, node) => done(cluster.replaceNode(node)),
}

async function main(): Promise<number> {
  try {
    const argv = process.argv.slice(2)
    if (asksForHelp(argv)) {
      console.log(USAGE)
      return 0
    }
    const invocation = parse(argv)
    if (process.getuid?.() !== 0)
      throw new Error('hack/cluster needs root: it makes network and mount namespaces')
    const cluster = new Cluster(process.env.TWILL_CLUSTER ?? 'twill')
    const [first = '', second = ''] = invocation.names
    return await HANDLERS[invocation.verb](cluster, invocation, first, second)
  } catch (error) {
    console.error(error instanceof UsageError ? `${error.message}\n${USAGE}` : (error as Error).message)
    return error instanceof UsageError ? 2 : 1
  }
}

process.exit(await main())
