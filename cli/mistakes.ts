/**
 * What was typed wrongly, told as what, where and expected. yargs finds most of it and says it in words of its own, with
 * names of options bare of their dashes; those are told anew here. What `check` functions say passes as it is.
 */
import { suggestion } from '../lib/validation.ts'

export interface Mistake {
  readonly type: 'mistake'
  readonly message: string
  /** The help that would have avoided it. */
  readonly hint: string
}

const VERBS = ['apply', 'get', 'delete', 'explain', 'status', 'ipam']
/** Options of several commands. */
const WITH_VALUE = ['-o', '--output', '--config', '--socket', '--etcd-endpoints', '--kubeconfig']
const IPAM_VERBS = ['show', 'check', 'repair']

export function mistake(message: string, argv: readonly string[]): Mistake {
  const [verb = '', second = ''] = argv.filter(word => !word.startsWith('-'))
  const verbs = VERBS.includes(verb) ? [verb] : []
  if (verb === 'ipam' && IPAM_VERBS.includes(second)) verbs.push(second)
  return {
    type: 'mistake',
    message: unknownCommand(argv) ?? told(message, argv),
    hint: ['twillctl', ...verbs, '--help'].join(' '),
  }
}

/** To yargs an argument like any other, beside the flags that only the right command would have known. */
function unknownCommand([verb = '', second = '']: readonly string[]): string | null {
  const [word, known] = verb === 'ipam' ? [second, IPAM_VERBS] : [verb, VERBS]
  if (word === '' || word.startsWith('-') || known.includes(word)) return null
  return `${JSON.stringify(word)}: unknown command, ${suggestion(word, known)}`
}

function told(message: string, argv: readonly string[]): string {
  const line = message.replaceAll(/\s*\n\s*/g, ' ')
  const last = argv.at(-1)
  // What is missing at the end yargs finds too late: the words before it are lost by then.
  if (last !== undefined && WITH_VALUE.includes(last)) return `${last}: expected a value`
  const [, names] = /^Unknown arguments?: (.*)$/.exec(line) ?? []
  if (names !== undefined) return unknown(names.split(', '), argv)
  const [, option, given, choices] =
    /^Invalid values: Argument: (\S+), Given: (.*), Choices: (.*)$/.exec(line) ?? []
  if (option !== undefined) return `--${option}: ${given}: expected one of ${choices?.replaceAll('"', '')}`
  const [, bare] = /^Not enough arguments following: (\S+)$/.exec(line) ?? []
  return bare === undefined ? line : `${dashed(bare)}: expected a value`
}

function unknown(names: readonly string[], argv: readonly string[]): string {
  const isWord = (name: string) => argv.includes(name)
  return names
    .map(name =>
      isWord(name) ? `${JSON.stringify(name)}: expected no further word` : `${dashed(name)}: unknown option`,
    )
    .join(', ')
}

const dashed = (name: string) => (name.length === 1 ? `-${name}` : `--${name}`)
