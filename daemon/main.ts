/**
 * twilld: reads its configuration, builds the daemon (compose.ts), and runs it until a signal. SIGTERM and SIGINT
 * leave the data path untouched: nothing in the kernel changes.
 *
 * `--leave` takes the node out of its cluster instead (leave.ts).
 *
 * Exit status: 0 after a signal, or when it has left; 1 when it cannot start or must not go on; 2 for a wrong configuration.
 */
import { hostname } from 'node:os'
import pino from 'pino'
import yargs from 'yargs'
import { minutesUntilFree } from '../ipam/removal.ts'
import { isTwillError, messageOf, TwillError } from '../lib/errors.ts'
import { counted } from '../lib/plural.ts'
import { VERSION } from '../lib/version.ts'
import { startDaemon } from './compose.ts'
import type { Config } from './config.ts'
import { DEFAULT_CONFIG_FILE, readConfigFile } from './config-file.ts'
import { flagOf, loadConfig, SETTINGS, variableOf } from './config-load.ts'
import { leave } from './leave.ts'

/** `leave` apart, all are settings. */
type Flags = Record<string, string | undefined> & { readonly leave?: unknown }

function parseFlags(argv: readonly string[]): Flags {
  let parser = yargs([...argv])
    .scriptName('twilld')
    .usage('$0 [options]\n\nThe node daemon of Twill.')
    .option('config', {
      type: 'string',
      describe: `configuration file (default ${DEFAULT_CONFIG_FILE} if it exists)`,
    })
    .option('leave', {
      type: 'boolean',
      describe: 'take this node out of its cluster, with the daemon stopped, and end',
    })
    .strict()
    .version(`twilld ${VERSION}`)
    .fail((message, error) => {
      throw error ?? new TwillError('config.invalid', `${message} (--help lists what there is)`)
    })
  for (const setting of SETTINGS)
    parser = parser.option(flagOf(setting), {
      type: 'string',
      describe: `${setting.path.join('.')}, also ${variableOf(setting)}`,
    })
  return parser.parseSync() as unknown as Flags
}

function configure(): { readonly config: Config; readonly leaves: boolean } {
  const { leave: leaves, ...flags } = parseFlags(process.argv.slice(2))
  const config = loadConfig({
    file: readConfigFile(flags.config, process.env),
    environment: process.env,
    flags,
    hostname: hostname(),
  })
  return { config, leaves: leaves === true }
}

/** What an operator reads goes to standard output, the log beside it. */
async function leaveAndTell(config: Config): Promise<void> {
  const log = pino({ level: config.logLevel }, pino.destination(2))
  const { freed, fenced, allowanceMs } = await leave(config, { log })
  const minutes = minutesUntilFree(allowanceMs, config.fenceMargin)
  const kept = `${counted(fenced, 'part')} in which pods live ${fenced === 1 ? 'is' : 'are'} fenced`
  const rest = fenced === 0 ? '' : `; ${kept}, free after ${minutes} min`
  const given = `${counted(freed, 'part')} ${freed === 1 ? 'is' : 'are'} free`
  process.stdout.write(`Node ${config.nodeName} has left: ${given}${rest}\n`)
}

async function main(): Promise<void> {
  let configured: ReturnType<typeof configure>
  try {
    configured = configure()
  } catch (error) {
    process.stderr.write(`twilld: ${messageOf(error)}\n`)
    process.exit(2)
  }
  const { config, leaves } = configured
  if (leaves) {
    await leaveAndTell(config)
    process.exit(0)
  }
  const log = pino({ level: config.logLevel, base: { node: config.nodeName } })
  const fail = (error: unknown) => {
    log.fatal(
      {
        error: messageOf(error),
        code: isTwillError(error) ? error.code : undefined,
        stack: isTwillError(error) ? undefined : (error as Error)?.stack,
      },
      'twilld cannot go on',
    )
    process.exit(1)
  }
  process.on('uncaughtException', fail)
  process.on('unhandledRejection', fail)
  const daemon = await startDaemon(config, { log, fail })
  const stop = (signal: NodeJS.Signals) => {
    log.info({ signal }, 'stopping; the data path stays as it is')
    daemon.stop().then(() => process.exit(0), fail)
  }
  process.once('SIGTERM', stop)
  process.once('SIGINT', stop)
}

main().catch(error => {
  process.stderr.write(`twilld: ${messageOf(error)}\n`)
  process.exit(1)
})
