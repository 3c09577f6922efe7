/**
 * `ipam repair`: mends what two independent sources prove. What concerns this node's kernel and journal its daemon does,
 * what concerns the datastore alone is done here, after a grace period. What is not proven is left, and `ipam check` says why.
 */
import { repairDatastore } from '../../ipam/audit/repair.ts'
import { answerOf } from '../answer.ts'
import { renderJson, renderYaml } from '../render/documents.ts'
import type { Session } from '../session.ts'
import type { ShowFormat } from './ipam-show.ts'

export interface RepairChoice {
  readonly dryRun: boolean
  readonly graceMs: number
  readonly format: ShowFormat
}

interface Done {
  readonly kind: string
  readonly object: string
  /** null: it was mended, or would be. */
  readonly failure: string | null
}

/** 0 when all that is proven was mended, on both sides. */
export async function ipamRepair(
  { dryRun, graceMs, format }: RepairChoice,
  session: Session,
): Promise<number> {
  const daemon = await answerOf(session.repair(dryRun))
  const datastore = await answerOf(mendDatastore(dryRun, graceMs, session))
  const mended: Done[] = [...(daemon.ok ? daemon.value.mended : []), ...(datastore.ok ? datastore.value : [])]
  const errors = [
    ...(daemon.ok ? [] : [`this node's daemon mended nothing: ${daemon.reason}`]),
    ...(datastore.ok ? [] : [`nothing was mended in the datastore: ${datastore.reason}`]),
  ]
  if (format === 'table') tell(mended, dryRun, session)
  else
    session.modules.stdout.write(
      format === 'json' ? renderJson({ dryRun, mended, errors }) : renderYaml([{ dryRun, mended, errors }]),
    )
  for (const error of errors) session.complain(error)
  return errors.length === 0 && mended.every(({ failure }) => failure === null) ? 0 : 1
}

function tell(mended: readonly Done[], dryRun: boolean, session: Session): void {
  for (const { kind, object, failure } of mended)
    if (failure === null) session.print(`${dryRun ? 'would mend' : 'mended'} ${kind} ${object}`)
    else session.complain(`${kind} ${object}: ${failure}`)
  if (mended.length === 0) session.note('nothing that is proven needs mending')
}

async function mendDatastore(dryRun: boolean, graceMs: number, session: Session): Promise<Done[]> {
  const { clock } = session.modules
  const waiting = (findings: number) =>
    session.note(`${findings} in the datastore: looking again in ${graceMs / 1000} s`)
  const mended = await repairDatastore({ graceMs, dryRun }, { store: await session.store(), clock, waiting })
  return mended.map(({ finding: { kind, object }, failure }) => ({ kind, object, failure }))
}
