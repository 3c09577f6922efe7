/** The frame of every bench: a stage that goes down again whatever happens, and the table with its goals. */
import { cpus, loadavg } from 'node:os'
import { type Extent, FULL, QUICK } from './extent.ts'
import { Stage } from './stage.ts'
import { isMet, type Row, tableOf } from './statistics.ts'

/** Of the minute before the bench: what else the machine had to do. */
const LOAD_BEFORE = loadavg()[0] ?? 0

export const say = (text: string) => console.log(text)

export async function step<T>(what: string, work: () => Promise<T>): Promise<T> {
  const begin = performance.now()
  const value = await work()
  say(`${what}: ${((performance.now() - begin) / 1000).toFixed(1)} s`)
  return value
}

/** The table, on which machine it was made and how busy that was, and how many goals are met. */
export function printRows(rows: readonly Row[]): void {
  const machine = `${cpus().length} × ${cpus()[0]?.model ?? 'processor'}, load before ${LOAD_BEFORE.toFixed(1)}`
  say(`\n${machine}, Node ${process.version}\n`)
  say(tableOf(rows))
  const judged = rows.filter(row => isMet(row) !== null)
  say(`\n${judged.filter(isMet).length} of ${judged.length} goals are met`)
}

/** Goals are printed, never enforced. --quick only shows that all of it works. */
export async function report(measure: (stage: Stage, extent: Extent) => Promise<Row[]>): Promise<void> {
  const extent = process.argv.includes('--quick') ? QUICK : FULL
  const stage = new Stage()
  const end = () => stage.down().finally(() => process.exit(1))
  process.once('SIGINT', end)
  process.once('SIGTERM', end)
  try {
    printRows(await measure(stage, extent))
  } finally {
    await stage.down()
  }
}
