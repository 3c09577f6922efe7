/** How the demos tell what they do: headings, and lines that say what happened and how long it took. */
import colors from 'picocolors'

export function say(text: string): void {
  console.log(`\n${colors.bold(text)}`)
}

export function line(what: string, durationMs: number): void {
  console.log(`  ${what.padEnd(104)} ${colors.dim(`${durationMs.toFixed(0).padStart(6)} ms`)}`)
}

/** @param work returns what to add to the line */
export async function timed(what: string, work: () => Promise<string>): Promise<void> {
  const begin = performance.now()
  const said = await work()
  line(said === '' ? what : `${what}: ${said}`, performance.now() - begin)
}

/** What somebody types, and what is answered. */
export function quote(typed: string, answer: string): void {
  console.log(colors.dim(`\n${typed}`))
  console.log(answer.trim())
}

interface Rig {
  down(): Promise<string[]>
  leftovers(): string[]
}

/** An earlier one of the same name, if any. */
export async function clearAway(rig: Rig): Promise<void> {
  if (rig.leftovers().length > 0)
    await timed('an earlier rig goes first', async () => `${(await rig.down()).length} things removed`)
}

/** @throws Error if anything is left */
export async function takeDown(rig: Rig): Promise<void> {
  await timed('the rest', async () => `${(await rig.down()).length} things removed`)
  const left = rig.leftovers()
  if (left.length > 0) throw new Error(`left behind: ${left.join(', ')}`)
  console.log('  nothing is left behind')
}
