/** Colours on a terminal only, and never against NO_COLOR (no-color.org: any value but the empty one). */
import picocolors from 'picocolors'
import type { Output } from '../modules.ts'

export type Colours = ReturnType<typeof picocolors.createColors>

export function coloursFor(output: Output, env: Readonly<Record<string, string | undefined>>): Colours {
  return picocolors.createColors(output.isTTY === true && !env.NO_COLOR)
}
