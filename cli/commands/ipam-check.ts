/**
 * `ipam check`: what disagrees, judged by this node's daemon (journal, kernel, namespaces, runtime) and from the datastore
 * (pools, slots, ledgers, nodes). Either may be away: the other is shown, and which one is missing is said. 0 only when
 * both were compared and all agrees.
 */
import type { AuditReport } from '../../daemon/api/types.ts'
import { auditDatastore } from '../../ipam/audit/read.ts'
import { isoOf } from '../address-map.ts'
import { type Answer, answerOf } from '../answer.ts'
import { type CheckedDatastore, renderCheck } from '../render/audit.ts'
import { renderJson, renderYaml } from '../render/documents.ts'
import type { Session } from '../session.ts'
import type { ShowFormat } from './ipam-show.ts'

export async function ipamCheck(format: ShowFormat, session: Session): Promise<number> {
  const [daemon, datastore] = await Promise.all([
    answerOf(session.audit()),
    answerOf(checkDatastore(session)),
  ])
  const both = { daemon: plain(daemon), datastore: plain(datastore) }
  session.modules.stdout.write(
    format === 'json'
      ? renderJson(both)
      : format === 'yaml'
        ? renderYaml([both])
        : renderCheck(daemon, datastore, session.colours),
  )
  const agrees = (answer: Answer<{ findings: readonly unknown[] }>) =>
    answer.ok && answer.value.findings.length === 0
  return agrees(daemon) && agrees(datastore) ? 0 : 1
}

const plain = (answer: Answer<AuditReport | CheckedDatastore>) =>
  answer.ok ? { ...answer.value, error: null } : { error: answer.reason }

/** @throws config.invalid, store.* */
async function checkDatastore(session: Session): Promise<CheckedDatastore> {
  const { findings, ...compared } = await auditDatastore(await session.store())
  return {
    compared,
    findings: findings.map(({ kind, object, message, since, mend, node, removable }) => ({
      kind,
      object,
      message,
      since: since === null ? null : isoOf(since),
      mend,
      node,
      repair: removable === null ? 'no' : 'yes',
    })),
  }
}
