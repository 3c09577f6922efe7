/** What may be typed after `twillctl ipam`. */
import type { Argv } from 'yargs'
import { parseDurationMs } from '../lib/duration.ts'
import type { RepairChoice } from './commands/ipam-repair.ts'
import type { ShowFormat, Subject } from './commands/ipam-show.ts'

export type IpamCommand =
  | { readonly verb: 'ipam-show'; readonly subject: Subject; readonly format: ShowFormat }
  | { readonly verb: 'ipam-check'; readonly format: ShowFormat }
  | ({ readonly verb: 'ipam-repair' } & RepairChoice)

/** What a grace period is counted in has been written by daemons meanwhile: they do so within seconds. */
const GRACE = '1m'

const OUTPUT = {
  alias: 'o',
  type: 'string',
  requiresArg: true,
  choices: ['yaml', 'json'],
  describe: 'for programs',
} as const

const formatOf = (args: { output?: unknown }): ShowFormat =>
  (args.output as ShowFormat | undefined) ?? 'table'

export function withIpam(parser: Argv, choose: (command: IpamCommand, args: unknown) => void): Argv {
  return parser.command('ipam', 'Addresses: who has which, and whether all records agree', (ipam: Argv) =>
    [withShow, withCheck, withRepair]
      .reduce((each, add) => add(each, choose), ipam)
      .demandCommand(1, 'expected show, check or repair')
      .example('$0 ipam show --ip 10.244.0.7', 'who holds it, and who held it before')
      .example('$0 ipam check', 'exit code 0 when all agrees'),
  )
}

type Choose = (command: IpamCommand, args: unknown) => void

function withShow(parser: Argv, choose: Choose): Argv {
  const text = (describe: string) => ({ type: 'string', requiresArg: true, describe }) as const
  return parser.command(
    'show',
    'A map of pools, of parts, or what is known of one address, node or pod',
    (each: Argv) =>
      each
        .option('blocks', { type: 'boolean', describe: 'every part with its node and fill' })
        .option('ip', text('one address: its node, holder, and holders before'))
        .option('node', text('parts of this node, and who holds addresses of them'))
        .option('pod', text('addresses of this pod: NAMESPACE/NAME, or a name in any namespace'))
        .option('output', OUTPUT)
        .check(args => checkOne(args))
        .example('$0 ipam show', 'how full each pool is')
        .example('$0 ipam show --pod default/web', 'its addresses, and those it had'),
    args => choose({ verb: 'ipam-show', subject: subjectOf(args), format: formatOf(args) }, args),
  )
}

const SUBJECTS = ['blocks', 'ip', 'node', 'pod'] as const

function checkOne(args: Record<string, unknown>): true {
  const given = SUBJECTS.filter(name => args[name] !== undefined)
  if (given.length > 1)
    throw new Error(
      `expected one of --blocks, --ip, --node, --pod, not ${given.map(each => `--${each}`).join(' and ')}`,
    )
  return true
}

function subjectOf({ blocks, ip, node, pod }: Record<string, unknown>): Subject {
  if (blocks === true) return { by: 'parts' }
  if (ip !== undefined) return { by: 'address', address: String(ip) }
  if (node !== undefined) return { by: 'node', node: String(node) }
  if (pod !== undefined) return { by: 'pod', pod: String(pod) }
  return { by: 'pools' }
}

function withCheck(parser: Argv, choose: Choose): Argv {
  return parser.command(
    'check',
    'Compare slots, ledgers, journal, kernel, namespaces and runtime; say what disagrees',
    (each: Argv) => each.option('output', OUTPUT).example('$0 ipam check -o json', 'for a monitoring system'),
    args => choose({ verb: 'ipam-check', format: formatOf(args) }, args),
  )
}

function withRepair(parser: Argv, choose: Choose): Argv {
  return parser.command(
    'repair',
    'Mend what two independent sources prove, after a grace period',
    (each: Argv) =>
      each
        .option('dry-run', { type: 'boolean', default: false, describe: 'say what would be mended' })
        .option('grace', {
          type: 'string',
          requiresArg: true,
          default: GRACE,
          describe: 'how long records of the datastore must stand unchanged',
        })
        .option('output', OUTPUT)
        .check(args => checkGrace(args.grace))
        .example('$0 ipam repair --dry-run', 'writes nothing'),
    args =>
      choose(
        {
          verb: 'ipam-repair',
          dryRun: args['dry-run'] as boolean,
          graceMs: parseDurationMs(String(args.grace)) as number,
          format: formatOf(args),
        },
        args,
      ),
  )
}

function checkGrace(grace: unknown): true {
  if (parseDurationMs(String(grace)) !== null) return true
  throw new Error(`grace: ${JSON.stringify(grace)}: expected a duration such as 30s or 5m`)
}
