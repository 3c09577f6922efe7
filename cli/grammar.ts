/**
 * What may be typed: argv → one command, or help, or a mistake. yargs does the parsing and writes the help; it
 * neither prints nor exits here, and reads no environment.
 */
import yargs, { type Argv } from 'yargs'
import { KINDS, kindNamed, namesOf, type ResourceKind } from '../datastore/resources/kinds.ts'
import { suggestion } from '../lib/validation.ts'
import { VERSION } from '../lib/version.ts'
import type { DeleteOptions } from './commands/delete.ts'
import type { OutputFormat } from './commands/get.ts'
import { type IpamCommand, withIpam } from './grammar-ipam.ts'
import { type Mistake, mistake } from './mistakes.ts'
import { type ConnectionFlags, DEFAULT_CONFIG, DEFAULT_RUN_DIR } from './settings.ts'

export type Command =
  | { readonly verb: 'apply'; readonly files: readonly string[] }
  | {
      readonly verb: 'get'
      readonly kind: ResourceKind
      readonly name: string | null
      readonly format: OutputFormat
    }
  | ({
      readonly verb: 'delete'
      readonly kind: ResourceKind
      readonly names: readonly string[]
    } & DeleteOptions)
  | ({ readonly verb: 'delete-files'; readonly files: readonly string[] } & DeleteOptions)
  | { readonly verb: 'explain'; readonly kind: ResourceKind; readonly path: readonly string[] }
  | { readonly verb: 'status'; readonly format: 'table' | 'json' }
  | IpamCommand

export type Parsed =
  | { readonly type: 'command'; readonly command: Command; readonly flags: ConnectionFlags }
  | { readonly type: 'help'; readonly text: string }
  | Mistake

const kindWords = KINDS.map(kind => kind.plural)
  .join(', ')
  .replace(/, ([^,]+)$/, ' or $1')

/** @param columns width of the help; null: as wide as it is */
export function parseArguments(argv: readonly string[], columns: number | null): Parsed {
  let command: Command | null = null
  let flags: ConnectionFlags | null = null
  let outcome: Parsed | null = null
  const choose = (chosen: Command, given: ConnectionFlags) => {
    command = chosen
    flags = given
  }
  grammar(choose, columns).parse(
    argv.flatMap(apart),
    {},
    (error: Error | undefined, _argv: unknown, output: string) => {
      if (error) outcome = mistake(error.message, argv)
      else if (output !== '') outcome = { type: 'help', text: output }
    },
  )
  if (outcome !== null) return outcome
  if (command === null || flags === null) return mistake('expected a command', argv)
  return { type: 'command', command, flags }
}

/** `-owide`, which yargs takes for `-o -w -i -d -e`. */
const apart = (word: string): string[] =>
  /^-[fo][^=]/.test(word) ? [word.slice(0, 2), word.slice(2)] : [word]

type Choose = (command: Command, flags: ConnectionFlags) => void

function grammar(choose: Choose, columns: number | null): Argv {
  const parser = yargs([])
    .scriptName('twillctl')
    .locale('en')
    .usage('Usage: $0 COMMAND\n\nResources, nodes and addresses of a Twill cluster.')
    .option('config', {
      type: 'string',
      requiresArg: true,
      describe: `twilld's configuration: where the datastore is [TWILL_CONFIG, ${DEFAULT_CONFIG}]`,
    })
    .option('etcd-endpoints', {
      type: 'string',
      array: true,
      requiresArg: true,
      nargs: 1,
      describe: 'URLs of etcd, separated by commas [TWILL_DATASTORE_ENDPOINTS]',
    })
    .option('kubeconfig', {
      type: 'string',
      requiresArg: true,
      describe: "how the cluster's API server is reached, if it is Kubernetes [TWILL_KUBERNETES_KUBECONFIG]",
    })
    .option('socket', {
      type: 'string',
      requiresArg: true,
      describe: `API socket of the daemon [TWILL_RUN_DIR/api.sock, ${DEFAULT_RUN_DIR}/api.sock]`,
    })
    .demandCommand(1, 'expected a command: apply, get, delete, explain, status or ipam')
    .strict()
    .parserConfiguration({ 'camel-case-expansion': false })
    .version(`twillctl ${VERSION}`)
    .help()
    .alias('help', 'h')
    .wrap(columns)
    .exitProcess(false)
    .showHelpOnFail(false)
  const resources = [withApply, withGet, withDelete, withExplain, withStatus].reduce(
    (each, add) => add(each, choose),
    parser as Argv,
  )
  return withIpam(resources, (command, args) => choose(command, flagsOf(args as Globals)))
}

interface Globals {
  config?: string | undefined
  'etcd-endpoints'?: string[] | undefined
  kubeconfig?: string | undefined
  socket?: string | undefined
}

function flagsOf(args: Globals): ConnectionFlags {
  const { config, kubeconfig, socket } = args
  return { config, etcdEndpoints: args['etcd-endpoints'], kubeconfig, socket }
}

/** Neither `array` (it eats what follows) nor `requiresArg` (it takes the "-" of standard input for a flag). */
const FILE_OPTION = {
  alias: 'f',
  type: 'string',
  describe: 'YAML file of resources, - for standard input; may be given again',
} as const

function withApply(parser: Argv, choose: Choose): Argv {
  return parser.command(
    'apply',
    'Create resources, or bring them to what the files say',
    (each: Argv) =>
      each
        .option('file', FILE_OPTION)
        .check(args => checkFiles(args.file ?? []))
        .example('$0 apply -f pools.yaml', 'create or update what the file describes')
        .example('$0 get ippools -o yaml | $0 apply -f -', 'changes nothing'),
    args => choose({ verb: 'apply', files: filesOf(args.file) ?? [] }, flagsOf(args as Globals)),
  )
}

function withGet(parser: Argv, choose: Choose): Argv {
  return parser.command(
    'get [kind] [name]',
    `Show ${kindWords}`,
    (each: Argv) =>
      each
        .positional('kind', { type: 'string', describe: KINDS.flatMap(namesOf).join(', ') })
        .positional('name', { type: 'string', describe: 'only this one' })
        .option('output', {
          alias: 'o',
          type: 'string',
          requiresArg: true,
          choices: ['wide', 'yaml', 'json'],
          describe: 'more columns, the documents, or documents with their status',
        })
        .check(args => checkKind(args.kind))
        .example('$0 get nodes', 'every node with its underlay and tunnel addresses')
        .example('$0 get ippool default -o yaml', 'one pool, as apply takes it'),
    args =>
      choose(
        {
          verb: 'get',
          kind: kindNamed(String(args.kind))!,
          name: args.name === undefined ? null : String(args.name),
          format: (args.output as OutputFormat | undefined) ?? 'table',
        },
        flagsOf(args as Globals),
      ),
  )
}

function withDelete(parser: Argv, choose: Choose): Argv {
  return parser.command(
    'delete [kind] [names..]',
    'Delete resources; a node is removed from the cluster',
    (each: Argv) =>
      each
        .positional('kind', { type: 'string', describe: KINDS.flatMap(namesOf).join(', ') })
        .positional('names', { type: 'string', array: true, describe: 'which' })
        .option('file', FILE_OPTION)
        .option('drain', {
          type: 'boolean',
          default: false,
          describe: 'pools in use: hand out no more and let them run empty, instead of refusing',
        })
        .option('cancel', {
          type: 'boolean',
          default: false,
          describe: 'pools whose deletion waits: open them again',
        })
        .check(args => checkDeletion(args.kind, args.names, args.file) && checkIntent(args.kind, args))
        .example('$0 delete ippool old --drain', 'close a pool; again, once it is empty, to see it gone')
        .example('$0 delete ippool old --cancel', 'keep it after all')
        .example('$0 delete node node2', 'remove a node whose daemon has stopped'),
    args =>
      choose(
        deletionOf(args.kind, args.names, args.file, {
          drain: args.drain as boolean,
          cancel: args.cancel as boolean,
        }),
        flagsOf(args as Globals),
      ),
  )
}

/** undefined: no `-f` was given. */
function filesOf(given: unknown): string[] | undefined {
  return given === undefined ? undefined : [given].flat().map(String)
}

function deletionOf(kind: unknown, names: unknown, given: unknown, options: DeleteOptions): Command {
  const files = filesOf(given)
  if (files !== undefined) return { verb: 'delete-files', files, ...options }
  const named = { kind: kindNamed(String(kind))!, names: (names as unknown[]).map(String) }
  return { verb: 'delete', ...named, ...options }
}

function withExplain(parser: Argv, choose: Choose): Argv {
  return parser.command(
    'explain [field]',
    'What the fields of a kind mean',
    (each: Argv) =>
      each
        .positional('field', { type: 'string', describe: 'KIND or KIND.FIELD' })
        .check(args => checkKind(args.field === undefined ? undefined : kindIn(args.field)))
        .example('$0 explain ippool', 'what a pool is made of')
        .example('$0 explain ippool.blockSize', 'one field; spec may be left out'),
    args => {
      const [kind = '', ...path] = String(args.field).split('.')
      choose({ verb: 'explain', kind: kindNamed(kind)!, path }, flagsOf(args as Globals))
    },
  )
}

const kindIn = (field: unknown): string => String(field).split('.')[0] ?? ''

function withStatus(parser: Argv, choose: Choose): Argv {
  return parser.command(
    'status',
    "This node's daemon, and the datastore; either may be away",
    (each: Argv) =>
      each
        .option('output', {
          alias: 'o',
          type: 'string',
          requiresArg: true,
          choices: ['json'],
          describe: 'for programs',
        })
        .example('$0 status', 'exit code 0 when both answer and the daemon is ready'),
    args =>
      choose({ verb: 'status', format: args.output === 'json' ? 'json' : 'table' }, flagsOf(args as Globals)),
  )
}

/** Throws what the person at the terminal reads. */
function checkKind(kind: unknown): true {
  if (kind === undefined) throw new Error(`expected a kind: ${kindWords}`)
  if (kindNamed(String(kind)) !== null) return true
  const names = KINDS.flatMap(namesOf)
  throw new Error(`kind: ${JSON.stringify(kind)}: unknown kind, ${suggestion(String(kind), names)}`)
}

function checkFiles(given: unknown): true {
  const files = filesOf(given) ?? []
  if (files.length > 0 && files.every(file => file !== '')) return true
  throw new Error('expected -f FILE, - for standard input')
}

/** Only pools are drained; a file may name other kinds beside them. */
function checkIntent(kind: unknown, { drain, cancel }: { drain: boolean; cancel: boolean }): true {
  if (drain && cancel) throw new Error('expected --drain or --cancel, not both')
  if ((drain || cancel) && kind !== undefined && kindNamed(String(kind))?.kind !== 'IPPool')
    throw new Error(`${drain ? '--drain' : '--cancel'}: expected ippool, not ${String(kind)}`)
  return true
}

function checkDeletion(kind: unknown, names: unknown, files: unknown): true {
  const named = kind !== undefined
  if (named && files !== undefined) throw new Error('expected KIND NAME or -f FILE, not both')
  if (files !== undefined) return checkFiles(files)
  if (!named) throw new Error('expected KIND NAME or -f FILE')
  checkKind(kind)
  if (!Array.isArray(names) || names.length === 0) throw new Error(`expected a name after ${String(kind)}`)
  return true
}
