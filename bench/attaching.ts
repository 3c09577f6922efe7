/**
 * ADD and DEL side by side: everybody does the same in the same run, one after the other, in turns that rotate.
 *
 * Trap: what one leaves to be done later (our links go 25 ms after DEL, the kernel's namespaces later still) must not
 * be done while the next is measured: hence the pauses, the same for all.
 */
import { type Competitor, competitor, OFFLINE, TWILL } from './competitors.ts'
import type { Extent } from './extent.ts'
import type { Job } from './spawner.ts'
import { pause, type Stage } from './stage.ts'

const CALM_MS = 80

/** Competitor's name → figure → milliseconds, in the order measured. */
export type Times = Map<string, Record<string, number[]>>

function note(times: Times, { name }: Competitor, figure: string, ms: number): void {
  const figures = times.get(name) ?? {}
  times.set(name, figures)
  figures[figure] = [...(figures[figure] ?? []), ms]
}

const rotated = <T>(all: readonly T[], by: number): T[] => all.map((_, i) => all[(i + by) % all.length] as T)

/** Figures: add, del, readd (DEL and at once ADD of the same container). */
export async function measureSingles(
  stage: Stage,
  rivals: readonly Competitor[],
  extent: Pick<Extent, 'singles' | 'pods'>,
  times: Times,
) {
  let pod = 0
  const one = async (job: Job) => (await stage.spawner.run([job])).totalMs
  for (let round = 0; round < extent.singles; round++)
    for (const rival of rotated(rivals, round)) {
      const n = pod++ % extent.pods
      note(times, rival, 'add', await one(rival.job('ADD', n)))
      await pause(CALM_MS)
      const again = [rival.job('DEL', n), rival.job('ADD', n)]
      note(times, rival, 'readd', (await stage.spawner.run(again)).totalMs)
      await pause(CALM_MS)
      note(times, rival, 'del', await one(rival.job('DEL', n)))
      await pause(CALM_MS)
    }
}

/** Figures: addBurst, delBurst. */
export async function measureBursts(
  stage: Stage,
  rivals: readonly Competitor[],
  extent: Pick<Extent, 'burst' | 'inFlight' | 'burstRounds'>,
  times: Times,
) {
  const { burst, inFlight, burstRounds } = extent
  for (let round = 0; round < burstRounds; round++)
    for (const rival of rotated(rivals, round))
      for (const [command, figure] of [
        ['ADD', 'addBurst'],
        ['DEL', 'delBurst'],
      ] as const) {
        const jobs = Array.from({ length: burst }, (_, n) => rival.job(command, n))
        note(times, rival, figure, (await stage.spawner.run(jobs, inFlight)).totalMs)
        await stage.settled()
        await pause(5 * CALM_MS)
      }
}

/** Figure: churn. Pods come and go in turns, half as many in flight as stand. */
export async function measureChurn(
  stage: Stage,
  rivals: readonly Competitor[],
  extent: Extent,
  times: Times,
) {
  const { inFlight, churn, pods } = extent
  const half = Math.min(churn / 2, pods - inFlight)
  for (const rival of rivals) {
    const stands = Array.from({ length: inFlight }, (_, n) => n)
    await stage.spawner.run(
      stands.map(n => rival.job('ADD', n)),
      inFlight,
    )
    const jobs = Array.from({ length: half }, (_, i) => [rival.job('ADD', i + inFlight), rival.job('DEL', i)])
    note(times, rival, 'churn', (await stage.spawner.run(jobs.flat(), Math.ceil(inFlight / 2))).totalMs)
    await stage.spawner.run(
      stands.map(n => rival.job('DEL', n + half)),
      inFlight,
    )
    await stage.settled()
    await pause(5 * CALM_MS)
  }
}

export interface VersionTimes {
  readonly trueMs: readonly number[]
  readonly conduitMs: readonly number[]
  readonly offlineMs: readonly number[]
}

/** The executables by themselves against a program that does nothing, interleaved. */
export async function measureVersions(stage: Stage, { versions }: Extent): Promise<VersionTimes> {
  const nothing: Job = { ...competitor(TWILL).job('VERSION', 0), program: '/bin/true' }
  const three = [nothing, competitor(TWILL).job('VERSION', 0), competitor(OFFLINE).job('VERSION', 0)]
  const jobs = Array.from({ length: versions }, () => three).flat()
  const { eachMs } = await stage.spawner.run(jobs)
  const every = (offset: number) => eachMs.filter((_, i) => i % three.length === offset)
  return { trueMs: every(0), conduitMs: every(1), offlineMs: every(2) }
}

/** The daemon's own time for ADD and DEL, from the frame read to the answer ready; milliseconds of each call. */
export async function measureDaemonShare(stage: Stage, rival: Competitor, count: number) {
  const shares = { ADD: [] as number[], DEL: [] as number[] }
  for (let n = 0; n < count; n++)
    for (const command of ['ADD', 'DEL'] as const) {
      const before = await stage.secondsServed(command)
      await stage.spawner.run([rival.job(command, n)])
      shares[command].push(((await stage.secondsServed(command)) - before) * 1000)
      await pause(CALM_MS)
    }
  return shares
}
