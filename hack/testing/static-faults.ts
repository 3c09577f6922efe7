/**
 * What the text of a test file gives away and its run cannot: a second suite whose `run()` was forgotten leaves
 * no trace at run time, and `.only` on it neither.
 */

function withoutComments(source: string): string {
  return source.replace(/\/\*[\s\S]*?\*\//g, '').replace(/(^|\s)\/\/.*$/gm, '$1')
}

/** @returns sentences, empty if nothing is wrong. Source: uvu's README, "Isolation" and `suite.run()`. */
export function staticFaults(source: string): string[] {
  const text = withoutComments(source)
  const faults: string[] = []
  const declared = [...text.matchAll(/\bconst\s+(\w+)\s*=\s*suite\b\s*(?:<[^>]*>)?\(/g)].map(
    match => match[1]!,
  )
  const names = /^import\s*\{[^}]*\btest\b[^}]*\}\s*from\s*'uvu'/m.test(text)
    ? ['test', ...declared]
    : declared
  for (const name of names) {
    if (!new RegExp(`\\b${name}\\.run\\(\\)`).test(text)) faults.push(`${name}.run() is missing`)
    if (new RegExp(`\\b${name}\\.only\\(`).test(text)) faults.push(`${name}.only leaves the other tests out`)
  }
  return faults
}
