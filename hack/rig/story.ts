/** How the demos go, and how they tell what they do: headings, and lines that say what happened and how long it took. */
import { parseArgs } from 'node:util'
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

export interface Demo {
  readonly title: string
  readonly rig: Rig
  /** Brings the rig up, and tells. */
  readonly story: () => Promise<void>
  /** Before the rig goes. */
  readonly ending?: () => Promise<void>
  /** What to type next when it is left up. */
  readonly next: () => readonly string[]
}

/** With --keep it is left up. Whatever fails, everything comes down again, unless it was to be kept. */
export async function play(demo: Demo): Promise<void> {
  const { values } = parseArgs({ options: { keep: { type: 'boolean', default: false } } })
  try {
    await perform(demo, values.keep)
  } catch (error) {
    if (!values.keep) await demo.rig.down()
    console.error(colors.red(`\nthe demo failed: ${(error as Error).message}`))
    process.exitCode = 1
  }
}

async function perform({ title, rig, story, ending, next }: Demo, keep: boolean): Promise<void> {
  const begin = performance.now()
  say(title)
  line('set-up and build', Number(process.env.SETUP_MS ?? 0))
  await clearAway(rig)
  await story()
  if (keep) {
    say('Left up')
    for (const typed of next()) console.log(`  ${typed}`)
    return
  }
  say('Everything down again')
  await ending?.()
  await takeDown(rig)
  console.log(`\n${((performance.now() - begin) / 1000).toFixed(1)} s`)
}

/** An earlier one of the same name, if any. */
async function clearAway(rig: Rig): Promise<void> {
  if (rig.leftovers().length > 0)
    await timed('an earlier rig goes first', async () => `${(await rig.down()).length} things removed`)
}

/** @throws Error if anything is left */
async function takeDown(rig: Rig): Promise<void> {
  await timed('the rest', async () => `${(await rig.down()).length} things removed`)
  const left = rig.leftovers()
  if (left.length > 0) throw new Error(`left behind: ${left.join(', ')}`)
  console.log('  nothing is left behind')
}
