/**
 * Checks the rules of CONTRIBUTING.md that a regular expression can judge. Each rule says where it applies; there
 * is no way to switch one off in a file.
 */
import { readFileSync } from 'node:fs'
import { basename } from 'node:path'
import { sourceFiles } from './source-files.ts'
import { staticFaults } from './testing/static-faults.ts'

/** Files with one subject are rarely over 400 lines; beyond this, a file has two subjects. */
const MAX_LINES = 600

const PRODUCT = ['lib', 'kernel', 'datastore', 'ipam', 'routing', 'policy', 'daemon', 'cli', 'cni-bin']

export interface HouseRule {
  name: string
  /** Folders whose files it judges. */
  folders: string[]
  /** Files that are what the rule sends everybody else to. */
  except?: RegExp
  /** @returns the offending texts, empty if none */
  judge: (source: string, file: string) => string[]
}

const lines = (source: string, pattern: RegExp): string[] =>
  source.split('\n').filter(line => pattern.test(line) && !/^\s*(\*|\/\/|\/\*)/.test(line))

export const HOUSE_RULES: HouseRule[] = [
  {
    name: 'no module-level mutable state',
    folders: PRODUCT,
    judge: source => lines(source, /^(export )?(let|var) /),
  },
  {
    name: 'time comes from the clock module',
    folders: PRODUCT,
    except: /^lib\/clock\.ts$|(^|\/)main\.ts$|^cni-bin\//,
    judge: source => lines(source, /\bDate\.now\(|\bnew Date\(\)|\bperformance\.now\(/),
  },
  {
    name: 'randomness comes from the random module',
    folders: PRODUCT,
    except: /^lib\/random\.ts$/,
    judge: source => lines(source, /\bMath\.random\(|\brandomBytes\(|\brandomUUID\(/),
  },
  {
    name: 'only kernel/ runs programs',
    folders: PRODUCT.filter(folder => folder !== 'kernel'),
    judge: source => lines(source, /from 'node:child_process'/),
  },
  {
    name: 'names say what things are: no manager, helper or util',
    folders: [...PRODUCT, 'hack', 'test', 'bench'],
    judge: (_source, file) => (/(manager|helper|util)s?[.-]/i.test(basename(file)) ? [basename(file)] : []),
  },
  {
    name: `a file has one subject: at most ${MAX_LINES} lines`,
    folders: [...PRODUCT, 'hack', 'test', 'bench'],
    judge: source => (source.split('\n').length > MAX_LINES ? [`${source.split('\n').length} lines`] : []),
  },
  {
    name: 'a test file runs every suite it declares, and all of it',
    folders: ['test'],
    judge: (source, file) => (file.endsWith('.test.ts') ? staticFaults(source) : []),
  },
]

/** @returns `file: rule: text` for every offence of this rule in this file */
export function offences(rule: HouseRule, file: string, source: string): string[] {
  if (rule.except?.test(file)) return []
  return rule.judge(source, file).map(text => `${file}: ${rule.name}: ${text.trim()}`)
}

if (process.argv[1] === import.meta.filename) {
  const found = HOUSE_RULES.flatMap(rule =>
    sourceFiles(rule.folders).flatMap(file => offences(rule, file, readFileSync(file, 'utf8'))),
  )
  for (const offence of found) console.log(offence)
  console.log(`house rules: ${HOUSE_RULES.length} rules, ${found.length} offences`)
  process.exit(found.length > 0 ? 1 : 0)
}
