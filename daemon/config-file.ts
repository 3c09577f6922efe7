/** The file of twilld's configuration: which one, and its text. Only the default one may be missing. */
import { readFileSync } from 'node:fs'
import { messageOf, TwillError } from '../lib/errors.ts'
import type { ConfigSources } from './config-load.ts'

export const DEFAULT_CONFIG_FILE = '/etc/twill/twilld.yaml'

/** @param flag of `--config`. null: there is none, and none was named. @throws config.invalid: it cannot be read */
export function readConfigFile(
  flag: string | undefined,
  { TWILL_CONFIG: variable }: NodeJS.ProcessEnv,
): ConfigSources['file'] {
  const path = flag ?? variable ?? DEFAULT_CONFIG_FILE
  try {
    return { path, text: readFileSync(path, 'utf8') }
  } catch (error) {
    const isNamed = flag !== undefined || variable !== undefined
    if (!isNamed && (error as NodeJS.ErrnoException).code === 'ENOENT') return null
    const by = flag === undefined && isNamed ? 'TWILL_CONFIG: ' : ''
    throw new TwillError('config.invalid', `${by}${path}: cannot be read: ${messageOf(error)}`, { path })
  }
}
