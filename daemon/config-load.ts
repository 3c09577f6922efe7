/**
 * Reads the configuration (config.ts) from its three places. Variables and flags name a field by its path:
 * `datastore.endpoints` is TWILL_DATASTORE_ENDPOINTS and --datastore-endpoints. Lists are separated by commas, as are labels
 * (zone=a,rack=r1), which replace those of the file as a whole.
 */
import { parse as parseYaml } from 'yaml'
import { withDatastoreType } from '../datastore/settings.ts'
import { messageOf, TwillError } from '../lib/errors.ts'
import { formatProblem, validate } from '../lib/validation.ts'
import { type Config, configSchema } from './config.ts'

interface Setting {
  readonly path: readonly string[]
  readonly kind: 'text' | 'number' | 'switch' | 'list' | 'labels'
}

/** Fields that the environment and flags can set; what is a table of tables stands in the file alone. */
export const SETTINGS: readonly Setting[] = [
  { path: ['nodeName'], kind: 'text' },
  { path: ['nodeLabels'], kind: 'labels' },
  { path: ['datastore', 'type'], kind: 'text' },
  { path: ['datastore', 'endpoints'], kind: 'list' },
  { path: ['datastore', 'prefix'], kind: 'text' },
  { path: ['datastore', 'username'], kind: 'text' },
  { path: ['datastore', 'passwordFile'], kind: 'text' },
  { path: ['kubernetes', 'enabled'], kind: 'switch' },
  { path: ['kubernetes', 'kubeconfig'], kind: 'text' },
  { path: ['underlay', 'interface'], kind: 'text' },
  { path: ['underlay', 'reach'], kind: 'text' },
  { path: ['vxlan', 'vni'], kind: 'number' },
  { path: ['vxlan', 'port'], kind: 'number' },
  { path: ['offlineAllowance'], kind: 'text' },
  { path: ['fenceMargin'], kind: 'text' },
  { path: ['coolDown'], kind: 'text' },
  { path: ['nodeLimit', 'parts'], kind: 'number' },
  { path: ['nodeLimit', 'addresses'], kind: 'number' },
  { path: ['heartbeatInterval'], kind: 'text' },
  { path: ['resyncInterval'], kind: 'text' },
  { path: ['audit', 'interval'], kind: 'text' },
  { path: ['audit', 'grace'], kind: 'text' },
  { path: ['audit', 'runtime'], kind: 'text' },
  { path: ['cni', 'conflist'], kind: 'text' },
  { path: ['cni', 'binDir'], kind: 'text' },
  { path: ['cni', 'chain'], kind: 'list' },
  { path: ['cni', 'network'], kind: 'text' },
  { path: ['host', 'sysctls'], kind: 'text' },
  { path: ['host', 'proc'], kind: 'text' },
  { path: ['runDir'], kind: 'text' },
  { path: ['stateDir'], kind: 'text' },
  { path: ['logLevel'], kind: 'text' },
  { path: ['metricsAddress'], kind: 'text' },
  { path: ['healthAddress'], kind: 'text' },
]

/** Variables that mean something to the executable, the rig or the tests, not to the configuration. */
const OTHER_VARIABLES: ReadonlySet<string> = new Set([
  'TWILL_CONFIG',
  'TWILL_FAULT',
  'TWILL_CNI_SOCKET',
  'TWILL_CONDUIT',
  'TWILL_CLUSTER',
])

const words = (setting: Setting) => setting.path.map(part => part.replace(/[A-Z]/g, letter => `_${letter}`))

export const variableOf = (setting: Setting): string => `TWILL_${words(setting).join('_').toUpperCase()}`
export const flagOf = (setting: Setting): string =>
  words(setting).join('-').replaceAll('_', '-').toLowerCase()

export interface ConfigSources {
  /** null: there is no file. */
  readonly file: { readonly path: string; readonly text: string } | null
  readonly environment: Readonly<Record<string, string | undefined>>
  /** By flag name; undefined: not given. */
  readonly flags: Readonly<Record<string, string | undefined>>
  readonly hostname: string
}

/** @throws TwillError config.invalid, with a line for every mistake that names source, field, value and expectation */
export function loadConfig(sources: ConfigSources): Config {
  const document = readFile(sources.file)
  const mistakes = unknownVariables(sources.environment)
  const origin = new Map<string, string>()
  for (const setting of SETTINGS) {
    const [source, text] = given(setting, sources)
    if (text === undefined) continue
    origin.set(setting.path.join('.'), source)
    place(document, setting.path, convert(setting, text))
  }
  if (document.nodeName === undefined) document.nodeName = sources.hostname.toLowerCase()
  document.datastore = withDatastoreType(document.datastore)
  const result = validate(configSchema, document)
  if (result.ok && mistakes.length === 0) return result.value
  const lines = result.ok
    ? []
    : result.problems.map(problem =>
        formatProblem(originOf(problem.field, origin) ?? sources.file?.path ?? 'configuration', problem),
      )
  throw new TwillError('config.invalid', [...mistakes, ...lines].join('\n'), {
    lines: [...mistakes, ...lines],
  })
}

/** Also of a field inside what was given as a whole. */
function originOf(field: string, origin: ReadonlyMap<string, string>): string | undefined {
  return [...origin].find(([path]) => field === path || field.startsWith(`${path}.`))?.[1]
}

function readFile(file: ConfigSources['file']): Record<string, unknown> {
  if (file === null) return {}
  let document: unknown
  try {
    document = parseYaml(file.text)
  } catch (error) {
    throw new TwillError('config.invalid', `${file.path}: not YAML: ${messageOf(error)}`, { path: file.path })
  }
  if (document === null || document === undefined) return {}
  if (typeof document !== 'object' || Array.isArray(document))
    throw new TwillError('config.invalid', `${file.path}: expected a table of settings`, { path: file.path })
  return document as Record<string, unknown>
}

function unknownVariables(environment: ConfigSources['environment']): string[] {
  const known = new Set(SETTINGS.map(variableOf))
  return Object.keys(environment)
    .filter(name => name.startsWith('TWILL_') && !known.has(name) && !OTHER_VARIABLES.has(name))
    .map(name => `environment: ${name}: expected one of ${[...known].join(', ')}`)
}

function given(setting: Setting, sources: ConfigSources): [string, string | undefined] {
  const flag = sources.flags[flagOf(setting)]
  if (flag !== undefined) return [`--${flagOf(setting)}`, flag]
  return [variableOf(setting), sources.environment[variableOf(setting)]]
}

function convert(setting: Setting, text: string): unknown {
  if (setting.kind === 'list') return text === '' ? [] : text.split(',').map(each => each.trim())
  if (setting.kind === 'number') return /^-?\d+$/.test(text) ? Number(text) : text
  if (setting.kind === 'switch') return text === 'true' || (text === 'false' ? false : text)
  if (setting.kind === 'labels') return labelsOf(text)
  return text === 'null' ? null : text
}

/** "zone=a,rack=r1"; the text itself when it is none such, for the schema to refuse. */
function labelsOf(text: string): unknown {
  const pairs = text === '' ? [] : text.split(',').map(pair => pair.trim().split('='))
  const isUnique = new Set(pairs.map(([key]) => key)).size === pairs.length
  return isUnique && pairs.every(({ length }) => length === 2) ? Object.fromEntries(pairs) : text
}

function place(document: Record<string, unknown>, path: readonly string[], value: unknown): void {
  const [head, ...rest] = path as [string, ...string[]]
  if (rest.length === 0) {
    document[head] = value
    return
  }
  const inner = document[head]
  const table = typeof inner === 'object' && inner !== null && !Array.isArray(inner) ? { ...inner } : {}
  document[head] = table
  place(table as Record<string, unknown>, rest, value)
}
