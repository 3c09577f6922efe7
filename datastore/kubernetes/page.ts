/** One page of a list. What stands between us and the server may answer 200 with something else: that is no empty list. */
import { TwillError } from '../../lib/errors.ts'
import type { KubernetesClient, KubernetesObject, RequestOptions } from './client.ts'

export interface Page {
  readonly metadata: { readonly resourceVersion: string; readonly continue?: string }
  readonly items: readonly KubernetesObject[]
}

/** @throws kubernetes.*; kubernetes.unavailable: the answer is no list */
export async function readPage(
  client: Pick<KubernetesClient, 'request'>,
  path: string,
  options: Pick<RequestOptions, 'query' | 'signal'>,
): Promise<Page> {
  const { metadata, items } = await client.request<{ metadata?: Page['metadata']; items?: unknown }>(
    'GET',
    path,
    options,
  )
  if (typeof metadata?.resourceVersion === 'string' && (items === null || Array.isArray(items)))
    return { metadata, items: (items as Page['items'] | null) ?? [] }
  const reason = 'the answer is no list: is that an API server?'
  throw new TwillError(
    'kubernetes.unavailable',
    `GET ${path}: ${reason}`,
    { path, reason, sent: false },
    { retryable: true },
  )
}
