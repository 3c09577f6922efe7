/** What 200 pods on a node cost: time of the next ADD, memory, writes to etcd. */
import type { Competitor } from './competitors.ts'
import type { Extent } from './extent.ts'
import { pause, type Stage } from './stage.ts'

export interface Growth {
  readonly emptyMs: readonly number[]
  readonly fullMs: readonly number[]
  /** Commits sent to etcd for one burst on a node that has no parts yet; ours only. */
  readonly commits: number
  /** MiB while the pods stand. */
  readonly residentMiB: number
}

/** Leaves no pods. The last `growthSamples` namespaces stay free for samples. */
export async function measureGrowth(stage: Stage, rival: Competitor, extent: Extent): Promise<Growth> {
  const { pods, burst, inFlight } = extent
  const commitsBefore = (await stage.status()).datastore.commits
  await addAll(stage, rival, 0, burst, inFlight)
  // The ledger follows.
  await pause(1_000)
  const commits = (await stage.status()).datastore.commits - commitsBefore
  await deleteAll(stage, rival, 0, burst, inFlight)
  const emptyMs = await sample(stage, rival, extent)
  await addAll(stage, rival, 0, pods, inFlight)
  await pause(1_000)
  const fullMs = await sample(stage, rival, extent)
  const residentMiB = stage.residentMiB()
  await deleteAll(stage, rival, 0, pods, inFlight)
  return { emptyMs, fullMs, commits, residentMiB }
}

async function sample(stage: Stage, rival: Competitor, extent: Extent): Promise<number[]> {
  const times: number[] = []
  for (let i = 0; i < extent.growthSamples; i++) {
    const n = extent.pods + i
    times.push((await stage.spawner.run([rival.job('ADD', n)])).totalMs)
    await pause(50)
    await stage.spawner.run([rival.job('DEL', n)])
    await pause(50)
  }
  await stage.settled()
  return times
}

const range = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i)

async function addAll(stage: Stage, rival: Competitor, from: number, to: number, inFlight: number) {
  await stage.spawner.run(
    range(from, to).map(n => rival.job('ADD', n)),
    inFlight,
  )
}

async function deleteAll(stage: Stage, rival: Competitor, from: number, to: number, inFlight: number) {
  await stage.spawner.run(
    range(from, to).map(n => rival.job('DEL', n)),
    inFlight,
  )
  await stage.settled()
}
