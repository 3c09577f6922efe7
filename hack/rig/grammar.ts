/** What may be typed after hack/cluster: argv → one verb with its names and options, or a UsageError. Pure. */
import { parseArgs } from 'node:util'

export const USAGE = `usage: hack/cluster COMMAND          (TWILL_CLUSTER names the rig, default "twill")
  up [--nodes N] [--mode vxlan] [--store etcd|embedded]
                                               etcd, N nodes (default 2), a ready twilld on each; embedded: no etcd, one node
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

export class UsageError extends Error {}

/** How many names follow each verb. */
const NAMES = {
  up: 0,
  down: 0,
  status: 0,
  leftovers: 0,
  exec: 1,
  'pod add': 2,
  'pod del': 1,
  'daemon start': 1,
  'daemon stop': 1,
  'daemon kill': 1,
  'store start': 0,
  'store stop': 0,
  'node stop': 1,
  'node start': 1,
  'node replace': 1,
}

export type Verb = keyof typeof NAMES

export interface Invocation {
  verb: Verb
  names: string[]
  /** undefined: as many as the store has by default. */
  nodes: number | undefined
  store: 'etcd' | 'embedded' | undefined
  machinesOnly: boolean
  namespace: string | undefined
  labels: Record<string, string>
  /** What follows "--": for exec, and never empty there. */
  command: string[]
}

const text = { type: 'string' as const }
const OPTIONS = {
  nodes: text,
  mode: text,
  store: text,
  namespace: text,
  label: { ...text, multiple: true as const },
  'machines-only': { type: 'boolean' as const },
}

/** Of this program, not of one that it is told to execute. */
export function asksForHelp(argv: readonly string[]): boolean {
  const own = argv.includes('--') ? argv.slice(0, argv.indexOf('--')) : argv
  return own[0] === 'help' || own.includes('--help') || own.includes('-h')
}

/** @throws UsageError */
export function parse(argv: readonly string[]): Invocation {
  const split = argv.indexOf('--')
  const command = split === -1 ? [] : argv.slice(split + 1)
  const { values, positionals } = read(split === -1 ? argv : argv.slice(0, split))
  only('--mode', values.mode, 'vxlan')
  const [verb, names] = verbOf(positionals)
  if (verb === 'exec' && command.length === 0) throw new UsageError('exec NAME -- COMMAND...')
  return {
    verb,
    names,
    nodes: count(values.nodes),
    store: storeOf(values.store),
    machinesOnly: values['machines-only'] === true,
    namespace: values.namespace,
    labels: labels(values.label),
    command,
  }
}

function read(argv: readonly string[]) {
  try {
    return parseArgs({ args: [...argv], options: OPTIONS, allowPositionals: true })
  } catch (error) {
    throw new UsageError((error as Error).message)
  }
}

function verbOf(words: string[]): [Verb, string[]] {
  const verb = [words[0], words.slice(0, 2).join(' ')].find(
    (text): text is Verb => text !== undefined && Object.hasOwn(NAMES, text),
  )
  if (verb === undefined)
    throw new UsageError(words.length === 0 ? 'no command' : `no such command: ${words.join(' ')}`)
  const names = words.slice(verb.split(' ').length)
  if (names.length !== NAMES[verb]) throw new UsageError(`${verb}: expected ${NAMES[verb]} name(s)`)
  return [verb, names]
}

function storeOf(text: string | undefined): Invocation['store'] {
  if (text === undefined || text === 'etcd' || text === 'embedded') return text
  throw new UsageError(`--store ${text}: expected etcd or embedded`)
}

function count(text: string | undefined): number | undefined {
  if (text === undefined) return undefined
  const number = Number(text)
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
