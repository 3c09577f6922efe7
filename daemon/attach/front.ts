/** The CNI socket of a running node: requests in, verbs called, answers out, each call counted and logged. */
import { stat } from 'node:fs/promises'
import { dispatch } from '../../cni-bin/dispatch.ts'
import type { Answer, Request } from '../../cni-bin/frame.ts'
import type { AddRequest, RequestContext } from '../../cni-bin/request.ts'
import { pluginOf } from '../../cni-bin/sections.ts'
import { faultPoint } from '../../lib/fault.ts'
import type { Log } from '../../lib/log.ts'
import type { Metrics } from '../metrics.ts'
import { CniServer } from './server.ts'
import type { DaemonVerbs, TakeBack } from './verbs.ts'

export interface FrontModules {
  readonly verbs: DaemonVerbs
  readonly metrics: Pick<Metrics, 'cniCall'>
  readonly log: Log
}

export async function createFront(options: { path: string }, modules: FrontModules): Promise<CniServer> {
  const { verbs, metrics, log } = modules
  const context = await requestContext()
  const made = new WeakMap<Request, TakeBack>()
  return new CniServer(options, {
    log,
    async serve(request, gone) {
      const begun = process.hrtime.bigint()
      const add = (each: AddRequest) => verbs.add(each, gone, takeBack => made.set(request, takeBack))
      const answer = await dispatch(request, context, { ...verbs, add })
      const seconds = Number(process.hrtime.bigint() - begun) / 1e9
      metrics.cniCall(request.environment.get('CNI_COMMAND') ?? '', codeOf(answer), seconds)
      logCall(log, request, answer, seconds)
      return answer
    },
    delivered: answered,
    async undelivered(request) {
      const takeBack = made.get(request)
      if (takeBack === undefined) return
      log.warn(namesOf(request), 'the client went away before the answer to ADD: undone')
      await takeBack()
    },
  })
}

async function requestContext(): Promise<RequestContext> {
  const own = await stat('/proc/self/ns/net', { bigint: true })
  return { ownNetns: { dev: own.dev.toString(), ino: own.ino.toString() }, stdinFailure: null }
}

function codeOf(answer: Answer): number {
  if (answer.status === 0) return 0
  return (JSON.parse(answer.stdout) as { code: number }).code
}

function logCall(log: Log, request: Request, answer: Answer, seconds: number): void {
  const command = request.environment.get('CNI_COMMAND')
  const data = { command, ...namesOf(request), ms: Math.round(seconds * 1e5) / 100 }
  if (answer.status === 0) log.debug(data, 'CNI call')
  else log.warn({ ...data, answer: answer.stdout.trim() }, 'CNI call failed')
}

const namesOf = ({ environment }: Request) => ({
  containerId: environment.get('CNI_CONTAINERID'),
  ifName: environment.get('CNI_IFNAME'),
})

function answered({ program, environment }: Request): void {
  const command = environment.get('CNI_COMMAND')
  if (command === 'ADD') faultPoint(pluginOf(program) === 'twill' ? 'add.answered' : 'lease.answered')
  if (command === 'DEL') faultPoint('del.answered')
}
