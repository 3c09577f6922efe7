/** Medians, percentiles, and the table of figures with their goals. */

export interface Summary {
  readonly median: number
  readonly p95: number
}

/** @param values at least one, any unit */
export function summary(values: readonly number[]): Summary {
  const sorted = [...values].sort((a, b) => a - b)
  const at = (fraction: number) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * fraction))]
  if (sorted.length === 0) throw new Error('nothing was measured')
  return { median: at(0.5) as number, p95: at(0.95) as number }
}

export type Unit = '/s' | 'ms' | 'us' | 'MiB' | 'Gbit/s' | '%' | 'x' | ''

export interface Row {
  readonly figure: string
  readonly unit: Unit
  readonly measured: Summary
  /** What it is compared with, and that one's measure. */
  readonly against?: { readonly name: string; readonly measured: Summary }
  /** Bound on the ratio to `against`, or on the measure itself; none: printed only. */
  readonly goal?: { readonly atMost: number } | { readonly atLeast: number }
}

/** To `against`, by medians; null without one. */
export const ratioOf = ({ measured, against }: Row): number | null =>
  against === undefined ? null : measured.median / against.measured.median

/** @returns null where there is no goal */
export function isMet(row: Row): boolean | null {
  if (row.goal === undefined) return null
  const value = ratioOf(row) ?? row.measured.median
  return 'atMost' in row.goal ? value <= row.goal.atMost : value >= row.goal.atLeast
}

const HEADS = ['figure', 'median', 'p95', 'against', 'its median', 'ratio', 'goal', 'met'] as const

/** Lines of a table; goals are printed, never enforced. */
export function tableOf(rows: readonly Row[]): string {
  const cells = [HEADS, ...rows.map(cellsOf)]
  const widths = HEADS.map((_, column) => Math.max(...cells.map(line => (line[column] as string).length)))
  return cells
    .map(line => line.map((cell, i) => (cell as string).padEnd(widths[i] as number)).join('  '))
    .map(line => line.trimEnd())
    .join('\n')
}

function cellsOf(row: Row): string[] {
  const { figure, unit, measured, against, goal } = row
  const ratio = ratioOf(row)
  const met = isMet(row)
  return [
    figure,
    quantity(measured.median, unit),
    quantity(measured.p95, unit),
    against?.name ?? '',
    against === undefined ? '' : quantity(against.measured.median, unit),
    ratio === null ? '' : ratio.toFixed(2),
    goal === undefined ? '' : goalText(goal, against === undefined ? unit : 'x'),
    met === null ? '' : met ? 'yes' : 'NO',
  ]
}

const quantity = (value: number, unit: Unit): string =>
  `${value.toFixed(value >= 100 || Number.isInteger(value) ? 0 : 2)}${unit === '' ? '' : ` ${unit}`}`

function goalText(goal: NonNullable<Row['goal']>, unit: Unit): string {
  const [word, bound] = 'atMost' in goal ? ['≤', goal.atMost] : ['≥', goal.atLeast]
  return `${word} ${bound}${unit === '' ? '' : ` ${unit}`}`
}
