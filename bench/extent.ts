/** How much is measured. */
export interface Extent {
  /** Single ADDs and DELs of each competitor. */
  readonly singles: number
  readonly burst: number
  readonly inFlight: number
  readonly burstRounds: number
  readonly churn: number
  readonly versions: number
  /** Pods standing when memory and growth are looked at. */
  readonly pods: number
  readonly growthSamples: number
  readonly transferSeconds: number
  readonly transferRounds: number
  readonly roundTrips: number
  readonly idleMs: number
  /** Build the newer reference plugins. */
  readonly newer: boolean
}

export const FULL: Extent = {
  singles: 30,
  burst: 100,
  inFlight: 32,
  burstRounds: 3,
  churn: 200,
  versions: 200,
  pods: 200,
  growthSamples: 25,
  transferSeconds: 1,
  transferRounds: 12,
  roundTrips: 2_000,
  idleMs: 10_000,
  newer: true,
}

/** Figures of no worth: shows that the bench works. */
export const QUICK: Extent = {
  singles: 2,
  burst: 6,
  inFlight: 4,
  burstRounds: 1,
  churn: 8,
  versions: 10,
  pods: 12,
  growthSamples: 3,
  transferSeconds: 1,
  transferRounds: 1,
  roundTrips: 100,
  idleMs: 1_000,
  newer: false,
}
