/**
 * What a server adds to a resource, and `kubectl get -o yaml` shows: nobody wrote it, so who applies that again means none of
 * it. What somebody else did write and `apply` does not, finalizers and owners, is refused rather than lost.
 */
import { formatValue, type Problem } from '../../lib/validation.ts'

export const POOL_FINALIZER = 'twill.network/pool'
/** Of a pool in Kubernetes: `<uid in the address space>/<uid of the object>` */
export const ENTERED = 'twill.network/entered-as'
/** Random: makes a write of one that would change nothing. */
export const COMMIT = 'twill.network/commit'
const LAST_APPLIED = 'kubectl.kubernetes.io/last-applied-configuration'

const OWN_ANNOTATIONS = [ENTERED, COMMIT, LAST_APPLIED]
const COUNTERS = [
  'generation',
  'resourceVersion',
  'managedFields',
  'selfLink',
  'deletionGracePeriodSeconds',
] as const

type Fields = Readonly<Record<string, unknown>>

const isFields = (value: unknown): value is Fields =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** The document as its author would have written it; as it is where it is no document. */
export function withoutServerFields(document: unknown): unknown {
  if (!isFields(document) || !isFields(document.metadata)) return document
  const { status, ...written } = document
  const { finalizers, annotations, uid, ...metadata } = without(document.metadata, COUNTERS)
  const kept = Array.isArray(finalizers) ? finalizers.filter(each => each !== POOL_FINALIZER) : finalizers
  return {
    ...written,
    ...(status === undefined || isFields(status) ? {} : { status }),
    metadata: {
      ...metadata,
      ...given('uid', document.kind === 'IPPool' ? enteredUid(document.metadata) : uid),
      ...given(
        'annotations',
        isFields(annotations) ? someOf(without(annotations, OWN_ANNOTATIONS)) : annotations,
      ),
      ...given('finalizers', Array.isArray(kept) && kept.length === 0 ? undefined : kept),
    },
  }
}

/** Of what `withoutServerFields` left. */
export function refusedServerFields(document: unknown): Problem[] {
  const metadata = isFields(document) && isFields(document.metadata) ? document.metadata : {}
  const refused = {
    finalizers: `expected none but ${POOL_FINALIZER}: kubectl writes those of others`,
    ownerReferences: 'expected none: kubectl writes them',
  }
  return Object.entries(refused)
    .filter(([field]) => metadata[field] !== undefined)
    .map(([field, message]) => {
      const path = ['metadata', field]
      return { field: path.join('.'), path, value: formatValue(metadata[field]), message }
    })
}

/** The one under which it stands in the address space: at the API server the object has another. */
function enteredUid({ uid, annotations, resourceVersion }: Fields): unknown {
  const [entered, object] = isFields(annotations) ? String(annotations[ENTERED] ?? '').split('/') : []
  if (object !== undefined && object === uid) return entered
  return resourceVersion === undefined ? uid : undefined
}

const without = (fields: Fields, names: readonly string[]): Record<string, unknown> =>
  Object.fromEntries(Object.entries(fields).filter(([name]) => !names.includes(name)))

const someOf = (fields: Fields): Fields | undefined => (Object.keys(fields).length === 0 ? undefined : fields)

const given = (name: string, value: unknown): Fields => (value === undefined ? {} : { [name]: value })
