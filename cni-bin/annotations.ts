/**
 * What a pod's annotations ask for. Runtimes hand them over as the capability `io.kubernetes.cri.pod-annotations`
 * (containerd, CRI-O) to a plugin that declares it. Whoever may create a pod writes them: they choose among what the
 * pools allow, and are never an identity.
 *
 * Keys are matched exactly, unlike those of Go's structures: they are data.
 */
import {
  ADDRESSES_ANNOTATION,
  ADDRESSES_EXPECTED,
  POOL_ANNOTATION,
  POOL_NAMES_EXPECTED,
  type PoolNames,
  readAddresses,
  readPoolNames,
} from '../lib/pool-annotations.ts'
import { CNI_CODE, CniError, quote } from './cni-error.ts'
import { type JsonObject, objectAt } from './json.ts'

export const ANNOTATIONS_CAPABILITY = 'io.kubernetes.cri.pod-annotations'

export interface AnnotatedWishes {
  readonly pools: PoolNames
  readonly addresses: readonly string[]
}

/** `runtime` is runtimeConfig. @throws CniError 7, naming the annotation */
export function parseAnnotations(runtime: JsonObject): AnnotatedWishes {
  const annotations = objectAt(runtime, ANNOTATIONS_CAPABILITY, `runtimeConfig["${ANNOTATIONS_CAPABILITY}"]`)
  const pools = (key: string) => listAt(annotations, key, readPoolNames, POOL_NAMES_EXPECTED)
  return {
    pools: { 4: pools(POOL_ANNOTATION[4]), 6: pools(POOL_ANNOTATION[6]) },
    addresses: listAt(annotations, ADDRESSES_ANNOTATION, readAddresses, ADDRESSES_EXPECTED),
  }
}

function listAt(
  annotations: JsonObject,
  key: string,
  read: (text: string) => readonly string[] | null,
  expected: string,
): readonly string[] {
  if (!Object.hasOwn(annotations, key)) return []
  const text = annotations[key]
  const value = typeof text === 'string' ? read(text) : null
  if (value !== null) return value
  throw new CniError(
    CNI_CODE.invalidNetworkConfig,
    `invalid annotation ${key}`,
    `${key} is ${quote(text)}, expected ${expected}`,
  )
}
