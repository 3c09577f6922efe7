/**
 * One request to one answer: validate, call the verb, print in the version in use. The daemon and twill-offline
 * differ in the verbs they hand in and in nothing else.
 */
import { CNI_CODE, CniError } from './cni-error.ts'
import type { Answer, Request } from './frame.ts'
import {
  type AddRequest,
  type CheckRequest,
  type CniRequest,
  type DelRequest,
  type GcRequest,
  parseRequest,
  type RequestContext,
  type StatusRequest,
} from './request.ts'
import { addOutput, type CniResult, errorOutput, versionOutput } from './result.ts'
import { versionInUse } from './version.ts'

/** Each may throw; what `toCniError` does not know becomes code 999. */
export interface Verbs {
  /** The whole result, the predecessor's merged in. */
  add(request: AddRequest): Promise<CniResult>
  check(request: CheckRequest): Promise<void>
  del(request: DelRequest): Promise<void>
  gc(request: GcRequest): Promise<void>
  status(request: StatusRequest): Promise<void>
  toCniError(error: unknown): CniError
}

/** Never rejects. The status is 0 or, as Go plugins have it, 1. */
export async function dispatch(request: Request, context: RequestContext, verbs: Verbs): Promise<Answer> {
  try {
    return { status: 0, stdout: await perform(parseRequest(request, context), verbs) }
  } catch (error) {
    return failure(request, error instanceof CniError ? error : verbs.toCniError(error))
  }
}

/** The answer that reports `error` in the version `request` uses. */
export function failure(request: Request, error: CniError): Answer {
  return { status: 1, stdout: errorOutput(error, versionInUse(request.stdin)) }
}

/** For errors nobody gave a code: 999, like Go's untyped ones (CNI-102). */
export function internalError(error: unknown): CniError {
  return new CniError(CNI_CODE.internal, error instanceof Error ? error.message : String(error))
}

async function perform(request: CniRequest, verbs: Verbs): Promise<string> {
  switch (request.command) {
    case 'ADD':
      return addOutput(await verbs.add(request), request.cniVersion)
    case 'CHECK':
      await verbs.check(request)
      return ''
    case 'DEL':
      await verbs.del(request)
      return ''
    case 'GC':
      await verbs.gc(request)
      return ''
    case 'STATUS':
      await verbs.status(request)
      return ''
    case 'VERSION':
      return versionOutput(request.cniVersion)
  }
}
