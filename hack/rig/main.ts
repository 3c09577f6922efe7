/** hack/cluster: words and options to calls of Cluster. Exit status 2 for a wrong word, 1 for what went wrong. */
import { parseArgs } from 'node:util'
import { Cluster } from './cluster.ts'
import { printStatus } from './status.ts'

const USAGE = `usage: hack/cluster COMMAND          (TWILL_CLUSTER names the rig, default "twill")
  up [--nodes N] [--mode vxlan] [--store etcd]   etcd, N nodes (default 2), a ready twilld on each
     [--machines-only]                           the same without twilld
  down                                           remove everything, say what
  status                                         nodes, daemons, pods, what the underlay dropped
  pod add NODE NAME [--namespace NS] [--label k=v]...   attach a pod, print its addresses
  pod del NAME
  exec NAME -- COMMAND...                        NAME: a pod, a node, or "underlay"
  daemon stop|kill|start NODE                    SIGTERM, SIGKILL, start until ready
  store stop|start
  node stop|start|replace NODE                   power off, boot again, another machine of that name
  leftovers                                      what of this rig is on the host`

class UsageError extends Error {}

interface Options {
  nodes?: string
  mode?: string
  store?: string
  namespace?: string
  label?: string[]
  'machines-only'?: boolean
}

interface Invocation {
  words: string[]
  options: Options
  /** What follows "--". */
  command: string[]
}

function parse(argv: string[]): Invocation {
  const split = argv.indexOf('--')
  const own = split === -1 ? argv : argv.slice(0, split)
  const text = { type: 'string' as const }
  const options = {
    nodes: text,
    mode: text,
    store: text,
    namespace: text,
    label: { ...text, multiple: true },
    'machines-only': { type: 'boolean' as const },
  }
  try {
    const { values, positionals } = parseArgs({ args: own, options, allowPositionals: true })
    return {
      words: positionals,
      options: values as Options,
      command: split === -1 ? [] : argv.slice(split + 1),
    }
  } catch (error) {
    throw new UsageError((error as Error).message)
  }
}

function count(text: string | undefined): number {
  const number = Number(text ?? 2)
  if (!Number.isInteger(number) || number < 1 || number > 99)
    throw new UsageError(`--nodes ${text}: expected 1 to 99`)
  return number
}

function only(option: string, given: string | undefined, known: string): void {
  if (given !== undefined && given !== known) throw new UsageError(`${option} ${given}: expected ${known}`)
}

function labels(given: string[] = []): Record<string, string> {
  return Object.fromEntries(
    given.map(text => {
      const [, key, value] = /^([^=]+)=(.*)$/.exec(text) ?? []
      if (key === undefined) throw new UsageError(`--label ${text}: expected k=v`)
      return [key, value!]
    }),
  )
}

type Handler = (cluster: Cluster, invocation: Invocation, names: string[]) => Promise<number>

const done = async (work: Promise<unknown>): Promise<number> => {
  await work
  return 0
}

async function up(cluster: Cluster, { options }: Invocation): Promise<number> {
  only('--mode', options.mode, 'vxlan')
  only('--store', options.store, 'etcd')
  const onStep = (what: string, ms: number) =>
    console.log(`${what.padEnd(44)} ${ms.toFixed(0).padStart(6)} ms`)
  await cluster.up({ nodes: count(options.nodes), daemons: options['machines-only'] !== true, onStep })
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

async function exec(cluster: Cluster, { command }: Invocation, [name]: string[]): Promise<number> {
  if (command.length === 0) throw new UsageError('exec NAME -- COMMAND...')
  const { status } = await cluster.exec(name!, command, { inherit: true })
  return status
}

async function podAdd(cluster: Cluster, { options }: Invocation, [node, name]: string[]): Promise<number> {
  const namespace = options.namespace === undefined ? {} : { namespace: options.namespace }
  const pod = await cluster.addPod(node!, name!, { ...namespace, labels: labels(options.label) })
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

/** Words, then how many names follow. */
const COMMANDS: [string[], number, Handler][] = [
  [['up'], 0, up],
  [['down'], 0, down],
  [['status'], 0, cluster => done(printStatus(cluster))],
  [['leftovers'], 0, leftovers],
  [['exec'], 1, exec],
  [['pod', 'add'], 2, podAdd],
  [['pod', 'del'], 1, (cluster, _, [name]) => done(cluster.deletePod(name!))],
  [['daemon', 'start'], 1, (cluster, _, [node]) => done(cluster.startDaemon(node!))],
  [['daemon', 'stop'], 1, (cluster, _, [node]) => stopDaemon(cluster, node!, 'TERM')],
  [['daemon', 'kill'], 1, (cluster, _, [node]) => stopDaemon(cluster, node!, 'KILL')],
  [['store', 'start'], 0, cluster => done(cluster.startStore())],
  [['store', 'stop'], 0, cluster => done(cluster.stopStore())],
  [['node', 'stop'], 1, (cluster, _, [node]) => done(cluster.stopNode(node!))],
  [['node', 'start'], 1, (cluster, _, [node]) => done(cluster.startNode(node!))],
  [['node', 'replace'], 1, (cluster, _, [node]) => done(cluster.replaceNode(node!))],
]

function dispatch(cluster: Cluster, invocation: Invocation): Promise<number> {
  const { words } = invocation
  for (const [verb, names, handler] of COMMANDS) {
    if (!verb.every((word, i) => words[i] === word)) continue
    if (words.length !== verb.length + names)
      throw new UsageError(`${verb.join(' ')}: expected ${names} name(s)`)
    return handler(cluster, invocation, words.slice(verb.length))
  }
  throw new UsageError(words.length === 0 ? 'no command' : `no such command: ${words.join(' ')}`)
}

async function main(): Promise<number> {
  try {
    const invocation = parse(process.argv.slice(2))
    if (process.getuid?.() !== 0)
      throw new Error('hack/cluster needs root: it makes network and mount namespaces')
    return await dispatch(new Cluster(process.env.TWILL_CLUSTER ?? 'twill'), invocation)
  } catch (error) {
    console.error(error instanceof UsageError ? `${error.message}\n${USAGE}` : (error as Error).message)
    return error instanceof UsageError ? 2 : 1
  }
}

process.exit(await main())
