/** Who this node is in the cluster: asked of the store, remembered in the journal. */
import { bindCluster } from '../../datastore/cluster.ts'
import { establishIdentity } from '../../ipam/identity.ts'
import { Backoff } from '../../lib/backoff.ts'
import { type Clock, type Random, systemClock } from '../../lib/clock.ts'
import { isTwillError, messageOf, TwillError } from '../../lib/errors.ts'
import { systemRandom } from '../../lib/random.ts'
import type { Base } from '../base.ts'

/** A start without the store, once this node has been in the cluster before, waits this long for it. */
export const STORE_PATIENCE_MS = 4_000
/** A node that cannot say who it is serves no new pods: it does not wait for longer than this. */
const RETRY_LAST_MS = 10_000

type Asking = Pick<Base, 'config' | 'local' | 'store' | 'boot' | 'log'>

interface Time {
  readonly clock: Clock
  readonly random: Random
}

export interface Identified {
  readonly uid: string
  readonly clusterUid: string
  readonly hardware: string
  /** What the journal says belongs to another UID. */
  readonly fresh: boolean
}

export interface Identification extends Identified {
  /**
   * Resolves when the store has said so; at once unless it was away. Only then may the heart beat: it takes a counter
   * that somebody else raised, as asking the store does, for another machine's.
   */
  readonly confirmed: Promise<void>
  /** False: the journal said it, since the store did not answer. */
  readonly byStore: boolean
}

/**
 * Asks the store who we are. A node that was in the cluster before goes on under its journaled UID when the store
 * stays away, and asks on, less and less often: thousands may ask. A new one waits.
 */
export async function identify(
  base: Asking,
  hardware: string,
  waiting: (reason: string) => void,
  time: Time = { clock: systemClock, random: systemRandom },
): Promise<Identification> {
  const { local, log, store } = base
  const { clock } = time
  const backoff = new Backoff(time, { lastMs: RETRY_LAST_MS })
  for (;;) {
    const known = local.node
    let contested = false
    let pauseMs = 0
    const asked = askStore(base, hardware, time, () => {
      contested = true
    })
    // A store that does answer, and says that another machine has our name, is heard to the end.
    const away = clock.sleep(STORE_PATIENCE_MS).then(() => (contested ? asked : null))
    const patience = known === null ? asked : Promise.race([asked, away])
    try {
      const identified = await patience
      if (identified !== null) return { ...identified, confirmed: Promise.resolve(), byStore: true }
    } catch (error) {
      if (!isTwillError(error) || !error.retryable) {
        if (isTwillError(error, 'store.foreign-cluster') && known !== null)
          log.error({ error: error.message }, 'the datastore is of another cluster')
        else throw error
      }
      pauseMs = backoff.next(error)
      waiting(`the datastore does not tell who this node is: ${messageOf(error)}`)
      log.warn({ error: messageOf(error) }, 'the datastore does not answer')
    }
    if (known !== null) {
      store.expectCluster(known.clusterUid)
      const confirmed = confirm(base, hardware, known.uid, asked, time)
      return {
        uid: known.uid,
        clusterUid: known.clusterUid,
        hardware,
        fresh: false,
        confirmed,
        byStore: false,
      }
    }
    await clock.sleep(pauseMs)
  }
}

async function askStore(
  base: Asking,
  hardware: string,
  { clock, random }: Time,
  contested: () => void = () => {},
): Promise<Identified> {
  const { config, local, store, boot, log } = base
  const clusterUid = await bindCluster(local.node?.clusterUid ?? null, { store, random })
  const identity = await establishIdentity(
    {
      name: config.nodeName,
      hardware,
      incarnation: boot,
      journaledUid: local.node?.uid ?? null,
      heartbeatMs: config.heartbeatInterval,
      allowanceMs: config.offlineAllowance,
    },
    {
      store,
      clock,
      random,
      log,
      contested,
      remember: uid => local.append({ t: 'node', uid, name: config.nodeName, clusterUid }),
    },
  )
  return { uid: identity.uid, clusterUid, hardware, fresh: identity.fresh }
}

/** @throws what ends the daemon: another one has our name, or we are somebody new and must begin anew */
async function confirm(
  base: Asking,
  hardware: string,
  uid: string,
  underWay: Promise<Identified>,
  time: Time,
): Promise<void> {
  const backoff = new Backoff(time, { lastMs: RETRY_LAST_MS })
  for (let asked = underWay; ; asked = askStore(base, hardware, time)) {
    try {
      const identified = await asked
      if (identified.uid === uid) return
      throw new TwillError(
        'node.name-taken',
        `this node is ${identified.uid} now and was ${uid}: starting anew`,
        { uid },
      )
    } catch (error) {
      if (isTwillError(error, 'node.name-taken')) throw error
      await time.clock.sleep(backoff.next(error))
    }
  }
}
