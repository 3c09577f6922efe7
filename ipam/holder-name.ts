import type { Holder } from './ipam.ts'

/** For people: the pod, where the runtime has said which it is. */
export const holderName = ({ id, kind, pod }: Pick<Holder, 'id' | 'kind' | 'pod'>): string =>
  pod === null ? `${kind} ${id}` : `pod ${pod.namespace}/${pod.name}`
