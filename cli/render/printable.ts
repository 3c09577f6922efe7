/**
 * What goes to a terminal, or through kubectl onto one: texts of others (a message of a balancer, an annotation, a name that a
 * runtime gave) may hold control characters, by which a terminal is told to do things. They are shown as JSON writes them,
 * so that JSON and quoted YAML mean the same as before. Our own colours pass.
 */
import type { Output } from '../modules.ts'

/** SGR of cli/render/colours.ts; tab and line feed are no matter. */
const CONTROL = /\x1b\[3[1239]m|[\x00-\x08\x0b-\x1f\x7f-\x9f]/g

const escaped = (found: string): string =>
  found.length > 1 ? found : `\\u${found.charCodeAt(0).toString(16).padStart(4, '0')}`

export const printable = (text: string): string => text.replace(CONTROL, escaped)

export const printing = (output: Output): Output => ({
  write: text => output.write(printable(text)),
  ...(output.isTTY === undefined ? {} : { isTTY: output.isTTY }),
  ...(output.columns === undefined ? {} : { columns: output.columns }),
})
