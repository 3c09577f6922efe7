/**
 * What tells one machine from another: its product UUID and the MACs of its interfaces (ADDRESSES.md rule 14).
 * Clones of a disk differ in both. A machine that got another network card is still the same one: taking it for a
 * stranger would cut off every pod on it.
 */
export interface Hardware {
  /** '' where the firmware has none. */
  readonly productUuid: string
  readonly macs: readonly string[]
}

/** As it stands in the liveness record; equal hardware gives equal text. */
export function hardwareText({ productUuid, macs }: Hardware): string {
  return `uuid=${productUuid};macs=${[...macs].sort().join(',')}`
}

function parse(text: string): Hardware | null {
  const match = /^uuid=([^;]*);macs=(.*)$/.exec(text)
  if (match === null) return null
  return { productUuid: match[1] as string, macs: (match[2] as string).split(',').filter(mac => mac !== '') }
}

/** Product UUIDs decide where both have one, else one MAC in common does. */
export function sameHardware(a: string, b: string): boolean {
  const [left, right] = [parse(a), parse(b)]
  if (left === null || right === null || a === b) return a === b
  if (left.productUuid !== '' && right.productUuid !== '') return left.productUuid === right.productUuid
  return left.macs.some(mac => right.macs.includes(mac))
}
