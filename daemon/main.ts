/**
 * twilld: reads its configuration, builds the daemon (compose.ts), and runs it until a signal. SIGTERM and SIGINT
 * leave the data path untouched: nothing in the kernel changes.
 *
 * `--leave` takes the node out of its cluster instead (leave.ts), `--uninstall` Twill off the node (uninstall/).
 *
 * Exit status: 0 after a signal, or when it has left or is gone; 1 when it cannot start or must not go on; 2 for a wrong configuration.
 */
import { hostname } from 'node:os'
import pino from 'pino'
import yargs from 'yargs'
import { isTwillError, messageOf, TwillError } from '../lib/errors.ts'
import { VERSION } from '../lib/version.ts'
import { startDaemon } from './compose.ts'
import type { Config } from './config.ts'
import { DEFAULT_CONFIG_FILE, readConfigFile } from './config-file.ts'
import { flagOf, loadConfig, SETTINGS, variableOf } from './config-load.ts'
import { leave, leaveText } from './leave.ts'
import { uninstall } from './uninstall/uninstall.ts'

interface Errands {
  readonly leave?: boolean
  readonly uninstall?: boolean
  readonly force?: boolean
}

/** Errands apart, all are settings. */
type Flags = Record<string, string | undefined> & { readonly [E in keyof Errands]: unknown }

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
    .option('uninstall', {
      type: 'boolean',
      describe: 'take Twill off this node, with the daemon stopped, and end',
      conflicts: 'leave',
    })
    .option('force', {
      type: 'boolean',
      describe: 'uninstall also when pods live here, and cut them off',
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

function configure(): { readonly config: Config; readonly errands: Errands } {
  const { leave: leaves, uninstall: uninstalls, force, ...flags } = parseFlags(process.argv.slice(2))
  if (force === true && uninstalls !== true)
    throw new TwillError('config.invalid', '--force: expected with --uninstall only')
  const config = loadConfig({
    file: readConfigFile(flags.config, process.env),
    environment: process.env,
    flags,
    hostname: hostname(),
  })
  return {
    config,
    errands: { leave: leaves === true, uninstall: uninstalls === true, force: force === true },
  }
}

/**
 * What an operator reads goes to standard output, the log beside it.
 * @returns whether there was one
 */
async function runErrand(config: Config, errands: Errands): Promise<boolean> {
  if (!errands.leave && !errands.uninstall) return false
  const log = pino({ level: config.logLevel }, pino.destination(2))
  const tell = (line: string) => process.stdout.write(`${line}\n`)
  if (errands.leave) tell(leaveText(config, await leave(config, { log })))
  else await uninstall(config, { force: errands.force === true }, { log, tell })
  return true
}

async function main(): Promise<void> {
  let configured: ReturnType<typeof configure>
  try {
    configured = configure()
  } catch (error) {
    process.stderr.write(`twilld: ${messageOf(error)}\n`)
    process.exit(2)
  }
  const { config, errands } = configured
  if (await runErrand(config, errands)) process.exit(0)
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
