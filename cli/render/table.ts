/** Plain columns as `ls` and kubectl have them: no borders, so that cut and awk read them too. */
import Table from 'cli-table3'

const NO_BORDERS = Object.fromEntries(
  [
    'top',
    'top-mid',
    'top-left',
    'top-right',
    'bottom',
    'bottom-mid',
    'bottom-left',
    'bottom-right',
    'left',
    'left-mid',
    'mid',
    'mid-mid',
    'right',
    'right-mid',
  ].map(part => [part, '']),
)

const STYLE = { 'padding-left': 0, 'padding-right': 0, head: [], border: [], compact: true }

/** Lines without trailing blanks, ending in a newline. An empty cell becomes "-": a column is never missing. */
export function renderTable(headers: readonly string[], rows: readonly (readonly string[])[]): string {
  const table = new Table({ head: [...headers], chars: { ...NO_BORDERS, middle: '   ' }, style: STYLE })
  table.push(...rows.map(row => row.map(cell => (cell === '' ? '-' : cell))))
  return `${table
    .toString()
    .split('\n')
    .map(line => line.trimEnd())
    .join('\n')}\n`
}
