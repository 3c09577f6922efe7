/** Lists, page by page. What stands between us and the server may answer 200 with something else: that is no empty list. */
import { isTwillError, TwillError } from '../../lib/errors.ts'
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
  if (typeof metadata?.resourceVersion !== 'string' || !(items === null || Array.isArray(items)))
    throw noPage(path, 'the answer is no list: is that an API server?')
  // Of a cache that does not look at queries: it has no end.
  if (metadata.continue && metadata.continue === options.query?.continue)
    throw noPage(path, 'the next page is the same again: is that an API server?')
  return { metadata, items: (items as Page['items'] | null) ?? [] }
}

function noPage(path: string, reason: string): TwillError {
  return new TwillError(
    'kubernetes.unavailable',
    `GET ${path}: ${reason}`,
    { path, reason, sent: false },
    { retryable: true },
  )
}

const PAGE_SIZE = 500
/** A list that takes longer than the server remembers its revision begins anew. */
const ATTEMPTS = 3

/** All of a list, for those who read it once. @throws kubernetes.* as readPage */
export async function readWhole(
  client: Pick<KubernetesClient, 'request'>,
  path: string,
  { signal }: Pick<RequestOptions, 'signal'> = {},
): Promise<KubernetesObject[]> {
  for (let attempt = 1; ; attempt++)
    try {
      const objects: KubernetesObject[] = []
      let token: string | undefined
      do {
        const query = { limit: PAGE_SIZE, continue: token }
        const page = await readPage(client, path, { query, ...(signal && { signal }) })
        objects.push(...page.items)
        token = page.metadata.continue
      } while (token)
      return objects
    } catch (error) {
      if (!isTwillError(error, 'kubernetes.gone') || attempt === ATTEMPTS) throw error
    }
}
