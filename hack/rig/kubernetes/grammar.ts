/** What may be typed after hack/kubernetes: argv → one verb with its names and options, or a UsageError. Pure. */
import { parseArgs } from 'node:util'
import { UsageError } from '../grammar.ts'
import { KINDS, type KindWishes } from './kind.ts'

export const USAGE = `usage: hack/kubernetes COMMAND       (TWILL_CLUSTER names the rig, default "twill")
  up [--nodes N]                          a control plane, N nodes (default 2); returns when all are Ready
     [--cni ${KINDS.cni.join('|')}] [--install ${KINDS.install.join('|')}] [--store ${KINDS.store.join('|')}]
     [--proxy ${KINDS.proxy.join('|')}] [--containerd ${KINDS.containerd.join('|')}]
  down                                    remove everything, say what
  status                                  nodes and pods
  kubectl ARGUMENTS...                    as the administrator, with the files of this machine
  twillctl NODE ARGUMENTS...              where the node's daemon runs: in its container
  node stop|start NODE                    power off, boot again
  exec NODE -- COMMAND...                 NODE may be "underlay", where the API server is
  leftovers                               what of this rig is on the host`

/** How many names follow each verb. */
const NAMES = { up: 0, down: 0, status: 0, exec: 1, 'node stop': 1, 'node start': 1, leftovers: 0 }

export type Verb = keyof typeof NAMES | 'kubectl' | 'twillctl'

export interface Invocation {
  verb: Verb
  name: string
  nodes: number | undefined
  wishes: KindWishes
  /** What follows "kubectl", "twillctl NODE", or "--". */
  command: string[]
}

const text = { type: 'string' as const }
const OPTIONS = { nodes: text, cni: text, install: text, store: text, proxy: text, containerd: text }

/** @throws UsageError */
export function parse(argv: readonly string[]): Invocation {
  const nothing = { name: '', nodes: undefined, wishes: {} }
  if (argv[0] === 'kubectl') return { verb: 'kubectl', ...nothing, command: argv.slice(1) }
  if (argv[0] === 'twillctl') return { verb: 'twillctl', ...nothing, ...ofNode(argv.slice(1)) }
  const split = argv.indexOf('--')
  const command = split === -1 ? [] : argv.slice(split + 1)
  const { values, positionals } = read(split === -1 ? argv : argv.slice(0, split))
  const [verb, name = ''] = verbOf(positionals)
  if (verb === 'exec' && command.length === 0) throw new UsageError('exec NODE -- COMMAND...')
  const wishes = {
    cni: oneOf('--cni', values.cni, KINDS.cni),
    install: oneOf('--install', values.install, KINDS.install),
    store: oneOf('--store', values.store, KINDS.store),
    proxy: oneOf('--proxy', values.proxy, KINDS.proxy),
    containerd: oneOf('--containerd', values.containerd, KINDS.containerd),
  }
  return { verb, name, nodes: count(values.nodes), wishes, command }
}

function ofNode([name, ...command]: readonly string[]): Pick<Invocation, 'name' | 'command'> {
  if (name === undefined) throw new UsageError('twillctl NODE ARGUMENTS...')
  return { name, command }
}

function read(argv: readonly string[]) {
  try {
    return parseArgs({ args: [...argv], options: OPTIONS, allowPositionals: true })
  } catch (error) {
    throw new UsageError((error as Error).message)
  }
}

function verbOf(words: string[]): [keyof typeof NAMES, string | undefined] {
  const verb = [words[0], words.slice(0, 2).join(' ')].find(
    (text): text is keyof typeof NAMES => text !== undefined && Object.hasOwn(NAMES, text),
  )
  if (verb === undefined)
    throw new UsageError(words.length === 0 ? 'no command' : `no such command: ${words.join(' ')}`)
  const names = words.slice(verb.split(' ').length)
  if (names.length !== NAMES[verb]) throw new UsageError(`${verb}: expected ${NAMES[verb]} name(s)`)
  return [verb, names[0]]
}

function oneOf<Value extends string>(
  option: string,
  given: string | undefined,
  known: readonly Value[],
): Value | undefined {
  if (given === undefined) return undefined
  const value = known.find(each => each === given)
  if (value === undefined) throw new UsageError(`${option} ${given}: expected ${known.join(' or ')}`)
  return value
}

function count(given: string | undefined): number | undefined {
  if (given === undefined) return undefined
  if (!/^[1-9]$/.test(given)) throw new UsageError(`--nodes ${given}: expected 1 to 9`)
  return Number(given)
}
