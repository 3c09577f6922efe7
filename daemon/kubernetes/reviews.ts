/** What a daemon looks at: its rights, and the definitions of the kinds that it reads and writes. */
import type { KubernetesClient } from '../../datastore/kubernetes/client.ts'
import {
  definitionsMessage,
  definitionsOf,
  missingInDefinitions,
} from '../../datastore/kubernetes/definitions/served.ts'
import {
  DAEMON_RIGHTS,
  missingRights,
  RECORD_RIGHTS,
  rightsMessage,
} from '../../datastore/kubernetes/rights.ts'
import { Review, type ReviewModules } from './review.ts'

export interface KubernetesReviews {
  readonly rights: Review
  readonly definitions: Review
  stop(): void
}

export interface ReviewsModules extends ReviewModules {
  readonly client: Pick<KubernetesClient, 'request'>
}

/** @param options.records whether Twill's own are custom resources */
export function reviewKubernetes(
  { records }: { readonly records: boolean },
  modules: ReviewsModules,
): KubernetesReviews {
  const { client } = modules
  const wanted = records ? [...DAEMON_RIGHTS, ...RECORD_RIGHTS] : DAEMON_RIGHTS
  const rights = new Review(
    {
      look: () => missingRights(client, wanted),
      message: rightsMessage,
      mended: 'no right at the API server is missing any more',
    },
    modules,
  )
  const needed = definitionsOf({ records })
  const definitions = new Review(
    {
      look: () => missingInDefinitions(client, needed),
      message: definitionsMessage,
      mended: 'nothing is missing in the definitions at the API server any more',
    },
    modules,
  )
  return {
    rights,
    definitions,
    stop() {
      rights.stop()
      definitions.stop()
    },
  }
}
