/** The part of twill-offline that is needed when the daemon has not answered; what it imports is loaded only then. */
import { readFileSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { askDaemon } from './daemon-client.ts'
import { dispatch } from './dispatch.ts'
import { type Answer, encodeRequest, type Request } from './frame.ts'
import type { Invocation } from './invocation.ts'
import type { Libc } from './libc.ts'
import { type OfflineModules, offlineVerbs } from './offline.ts'
import { removePodLinks } from './pod-link.ts'
import type { RequestContext } from './request.ts'
import { removeSpooled, SPOOL_FOLDER, writeSpooled } from './spool.ts'
import { SUPPORTED_VERSIONS } from './version.ts'

export { failure, internalError } from './dispatch.ts'

export const INTRODUCTION = `Twill, a CNI plugin for container networks with addresses of their own; speaks CNI ${SUPPORTED_VERSIONS.join(', ')}\n`

/** When the first try met a daemon that is not there, and when one that says nothing. */
const SECOND_SILENCE_MS = { away: 10_000, silent: 500 }

/** Never rejects, except for a defect. `reason` is what became of the first try. */
export function answerAlone(
  libc: Libc,
  socket: string,
  { request, stdinFailure }: Invocation,
  reason: 'away' | 'silent',
): Promise<Answer> {
  const context: RequestContext = { ownNetns: ownNetns(), stdinFailure }
  const modules: OfflineModules = {
    removePodLinks: id => removePodLinks(libc, id),
    spool: name => spool(libc, name, request),
    unspool: removeSpooled,
    askAgain: () => askDaemon(libc, socket, encodeRequest(request), SECOND_SILENCE_MS[reason]).answer,
    daemonLastAliveMs: () => ageOf(join(dirname(socket), 'alive')),
    warn: message => void libc.write(2, Buffer.from(`${message}\n`)),
  }
  return dispatch(request, context, offlineVerbs(request, reason, modules))
}

function ownNetns(): RequestContext['ownNetns'] {
  try {
    const { dev, ino } = statSync('/proc/self/ns/net', { bigint: true })
    return { dev: dev.toString(), ino: ino.toString() }
  } catch {
    return null
  }
}

/** The variable is for tests; whoever sets it is root already. */
function spool(libc: Libc, name: string, request: Request): string {
  const boottimeMs = libc.boottimeMs()
  const del = { boot: readBoot(libc), boottimeMs, realtimeMs: Date.now(), request }
  return writeSpooled(process.env.TWILL_SPOOL || SPOOL_FOLDER, `${name}-${boottimeMs}-${process.pid}`, del)
}

/** As daemon/node/boot.ts has it. '' without /proc: the daemon then knows nothing of what came first. */
function readBoot(libc: Libc): string {
  try {
    const bootId = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()
    return `${bootId}:${libc.ownNetnsCookie() ?? ''}`
  } catch {
    return ''
  }
}

function ageOf(file: string): number | null {
  try {
    return Math.max(0, Date.now() - statSync(file).mtimeMs)
  } catch {
    return null
  }
}
