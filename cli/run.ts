/**
 * twillctl from argv to exit code, with everything it touches given: 0 done, 1 failed, 2 typed wrongly. What a
 * program reads goes to stdout, everything for people to stderr, an error being one line (several mistakes in
 * documents: one line each).
 */
import { messageOf } from '../lib/errors.ts'
import { apply } from './commands/apply.ts'
import { deleteFiles, deleteResources } from './commands/delete.ts'
import { explain } from './commands/explain.ts'
import { get } from './commands/get.ts'
import { ipamCheck } from './commands/ipam-check.ts'
import { ipamRepair } from './commands/ipam-repair.ts'
import { ipamShow } from './commands/ipam-show.ts'
import { status } from './commands/status.ts'
import { type Command, parseArguments } from './grammar.ts'
import type { CliModules } from './modules.ts'
import { coloursFor } from './render/colours.ts'
import { printing } from './render/printable.ts'
import { Session } from './session.ts'
import { readSettings } from './settings.ts'

export const EXIT = { done: 0, failed: 1, usage: 2 } as const

/** @param argv without interpreter and script */
export async function run(argv: readonly string[], given: CliModules): Promise<number> {
  const modules = { ...given, stdout: printing(given.stdout), stderr: printing(given.stderr) }
  const parsed = parseArguments(argv, modules.stdout.columns ?? null)
  if (parsed.type === 'help') {
    modules.stdout.write(`${parsed.text}\n`)
    return EXIT.done
  }
  if (parsed.type === 'mistake') {
    complain(`${parsed.message} (see ${parsed.hint})`, modules)
    return EXIT.usage
  }
  try {
    const session = new Session(await readSettings(parsed.flags, modules), modules)
    return await execute(parsed.command, session).finally(() => session.close())
  } catch (error) {
    complain(messageOf(error), modules)
    return EXIT.failed
  }
}

function execute(command: Command, session: Session): Promise<number> {
  switch (command.verb) {
    case 'apply':
      return apply(command.files, session)
    case 'get':
      return get(command.kind, command.name, command.format, session)
    case 'delete':
      return deleteResources(
        command.names.map(name => ({ kind: command.kind, name })),
        command,
        session,
      )
    case 'delete-files':
      return deleteFiles(command.files, command, session)
    case 'explain':
      return explain(command.kind, command.path, session)
    case 'status':
      return status(command.format, session)
    case 'ipam-show':
      return ipamShow(command.subject, command.format, session)
    case 'ipam-check':
      return ipamCheck(command.format, session)
    case 'ipam-repair':
      return ipamRepair(command, session)
  }
}

function complain(message: string, { stderr, env }: CliModules): void {
  const { red } = coloursFor(stderr, env)
  for (const line of message.split('\n')) stderr.write(`${red('error:')} ${line}\n`)
}
