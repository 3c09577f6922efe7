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
  ANNOTATION_DOMAIN,
  MAC_ANNOTATION,
  POD_ANNOTATIONS,
  POOL_ANNOTATION,
  POOL_NAMES_EXPECTED,
  type PoolNames,
  readAddresses,
  readPoolNames,
} from '../lib/pool-annotations.ts'
import { suggestion } from '../lib/validation.ts'
import { CNI_CODE, CniError, quote } from './cni-error.ts'
import { type JsonObject, objectAt } from './json.ts'
import { macExpected, readMac } from './mac.ts'

export const ANNOTATIONS_CAPABILITY = 'io.kubernetes.cri.pod-annotations'

export interface AnnotatedWishes {
  readonly pools: PoolNames
  readonly addresses: readonly string[]
  readonly mac: string | null
}

/** `runtime` is runtimeConfig. @throws CniError 7, naming the annotation */
export function parseAnnotations(runtime: JsonObject): AnnotatedWishes {
  const annotations = objectAt(runtime, ANNOTATIONS_CAPABILITY, `runtimeConfig["${ANNOTATIONS_CAPABILITY}"]`)
  refuseUnknown(annotations)
  const pools = (key: string) => valueAt(annotations, key, readPoolNames, POOL_NAMES_EXPECTED) ?? []
  return {
    pools: { 4: pools(POOL_ANNOTATION[4]), 6: pools(POOL_ANNOTATION[6]) },
    addresses: valueAt(annotations, ADDRESSES_ANNOTATION, readAddresses, ADDRESSES_EXPECTED) ?? [],
    mac: valueAt(annotations, MAC_ANNOTATION, readMac, macExpected),
  }
}

/** Of our own domain: most likely misspelt, and the pod would start without what it asks for. */
function refuseUnknown(annotations: JsonObject): void {
  for (const key of Object.keys(annotations))
    if (key.startsWith(ANNOTATION_DOMAIN) && !POD_ANNOTATIONS.includes(key))
      throw new CniError(
        CNI_CODE.invalidNetworkConfig,
        `unknown annotation ${quote(key)}`,
        suggestion(key, POD_ANNOTATIONS, ANNOTATION_DOMAIN),
      )
}

/** null: the pod has no such annotation. */
function valueAt<T>(
  annotations: JsonObject,
  key: string,
  read: (text: string) => T | null,
  expected: string | ((refused: unknown) => string),
): T | null {
  if (!Object.hasOwn(annotations, key)) return null
  const text = annotations[key]
  const value = typeof text === 'string' ? read(text) : null
  if (value !== null) return value
  throw new CniError(
    CNI_CODE.invalidNetworkConfig,
    `invalid annotation ${key}`,
    `${key} is ${quote(text)}, expected ${typeof expected === 'string' ? expected : expected(text)}`,
  )
}
