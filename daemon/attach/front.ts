/** The CNI socket of a running node: requests in, verbs called, answers out, each call counted and logged. */
import { stat } from 'node:fs/promises'
import { dispatch } from '../../cni-bin/dispatch.ts'
import type { Answer, Request } from '../../cni-bin/frame.ts'
import { type AddRequest, parseRequest, type RequestContext } from '../../cni-bin/request.ts'
import { pluginOf } from '../../cni-bin/sections.ts'
import { faultPoint } from '../../lib/fault.ts'
import type { Log } from '../../lib/log.ts'
import type { Metrics } from '../metrics.ts'
import type { Attachments } from './attachments.ts'
import type { Leases } from './leases.ts'
import { CniServer } from './server.ts'
import type { DaemonVerbs } from './verbs.ts'

export interface FrontModules {
  readonly verbs: DaemonVerbs
  readonly attachments: Attachments
  readonly leases: Leases
  readonly metrics: Pick<Metrics, 'cniCall'>
  readonly log: Log
}

export async function createFront(options: { path: string }, modules: FrontModules): Promise<CniServer> {
  const { verbs, metrics, log } = modules
  const context = await requestContext()
  const repeats = new WeakSet<Request>()
  return new CniServer(options, {
    log,
    async serve(request, gone) {
      const begun = process.hrtime.bigint()
      const repeated = () => repeats.add(request)
      const add = (each: AddRequest) => verbs.add(each, gone, repeated)
      const answer = await dispatch(request, context, { ...verbs, add })
      const seconds = Number(process.hrtime.bigint() - begun) / 1e9
      metrics.cniCall(request.environment.get('CNI_COMMAND') ?? '', codeOf(answer), seconds)
      logCall(log, request, answer, seconds)
      return answer
    },
    delivered: answered,
    async undelivered(request) {
      if (!repeats.has(request)) await undo(request, context, modules)
    },
  })
}

async function requestContext(): Promise<RequestContext> {
  const own = await stat('/proc/self/ns/net', { bigint: true })
  return { ownNetns: { dev: own.dev.toString(), ino: own.ino.toString() }, stdinFailure: null }
}

/** An ADD whose answer nobody took is taken back. */
async function undo(
  request: Request,
  context: RequestContext,
  { attachments, leases, log }: FrontModules,
): Promise<void> {
  const parsed = parseRequest(request, context)
  if (parsed.command !== 'ADD') return
  log.warn(
    { containerId: parsed.containerId, ifName: parsed.ifName },
    'the client went away before the answer to ADD: undone',
  )
  await (parsed.plugin === 'twill-ipam' ? leases : attachments).del(parsed)
}

function codeOf(answer: Answer): number {
  if (answer.status === 0) return 0
  return (JSON.parse(answer.stdout) as { code: number }).code
}

function logCall(log: Log, request: Request, answer: Answer, seconds: number): void {
  const { environment } = request
  const data = {
    command: environment.get('CNI_COMMAND'),
    containerId: environment.get('CNI_CONTAINERID'),
    ifName: environment.get('CNI_IFNAME'),
    ms: Math.round(seconds * 1e5) / 100,
  }
  if (answer.status === 0) log.debug(data, 'CNI call')
  else log.warn({ ...data, answer: answer.stdout.trim() }, 'CNI call failed')
}

function answered({ program, environment }: Request): void {
  const command = environment.get('CNI_COMMAND')
  if (command === 'ADD') faultPoint(pluginOf(program) === 'twill' ? 'add.answered' : 'lease.answered')
  if (command === 'DEL') faultPoint('del.answered')
}
