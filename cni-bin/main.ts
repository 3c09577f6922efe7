/**
 * twill-offline: the whole plugin in one file compiled by Bun. Called by a runtime it asks the daemon like the
 * conduit; called by the conduit (TWILL_CONDUIT) or left alone by the daemon it answers by itself.
 *
 * Trap: on success of ADD stdout holds the result and nothing else (CNI-006), so all chatter goes to stderr.
 */
import { readFileSync, statSync, writeSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { messageOf } from '../lib/errors.ts'
import { askDaemon, type DaemonReply } from './daemon-client.ts'
import { dispatch, failure, internalError } from './dispatch.ts'
import { type Answer, encodeRequest, type Request } from './frame.ts'
import { type Invocation, readInvocation } from './invocation.ts'
import { type Libc, openLibc } from './libc.ts'
import { type OfflineModules, offlineVerbs } from './offline.ts'
import { removePodLinks } from './pod-link.ts'
import { removeSpooled, SPOOL_FOLDER, writeSpooled } from './spool.ts'
import { SUPPORTED_VERSIONS } from './version.ts'

const SILENCE_MS = 10_000
/** For the second try, when the first one met a daemon that says nothing. */
const SHORT_SILENCE_MS = 500

interface Places {
  readonly socket: string
  readonly spool: string
}

/** The variables are for tests; whoever sets them is root already. */
function placesOf(environment: NodeJS.ProcessEnv): Places {
  return {
    socket: environment.TWILL_CNI_SOCKET || '/run/twill/cni.sock',
    spool: environment.TWILL_SPOOL || SPOOL_FOLDER,
  }
}

function firstReply(libc: Libc, places: Places, invocation: Invocation): DaemonReply {
  const conduit = process.env.TWILL_CONDUIT
  if (conduit === 'away' || conduit === 'silent') return { answer: null, reason: conduit }
  // Refused here in any case, and such a frame cannot be sent.
  if (invocation.context.stdinFailure !== null) return { answer: null, reason: 'away' }
  return askDaemon(libc, places.socket, encodeRequest(invocation.request), SILENCE_MS)
}

async function answer(libc: Libc, places: Places, invocation: Invocation): Promise<Answer> {
  const reply = firstReply(libc, places, invocation)
  if (reply.answer !== null) return reply.answer
  const silenceMs = reply.reason === 'silent' ? SHORT_SILENCE_MS : SILENCE_MS
  const modules: OfflineModules = {
    removePodLinks: id => removePodLinks(libc, id),
    spool: (name, request) => spool(libc, places, name, request),
    unspool: removeSpooled,
    askAgain: () => askDaemon(libc, places.socket, encodeRequest(invocation.request), silenceMs).answer,
    daemonLastAliveMs: () => ageOf(join(dirname(places.socket), 'alive')),
    warn: message => writeAll(2, `${message}\n`),
  }
  return dispatch(
    invocation.request,
    invocation.context,
    offlineVerbs(invocation.request, reply.reason, modules),
  )
}

function spool(libc: Libc, places: Places, name: string, request: Request): string {
  const boottimeMs = libc.boottimeMs()
  const del = { boot: readBoot(libc), boottimeMs, realtimeMs: Date.now(), request }
  return writeSpooled(places.spool, `${name}-${boottimeMs}-${process.pid}`, del)
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

function writeAll(fd: number, text: string): void {
  const bytes = Buffer.from(text)
  for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at)
}

async function run(): Promise<number> {
  if (!process.env.CNI_COMMAND) {
    writeAll(
      2,
      `Twill, a CNI plugin for container networks with addresses of their own; speaks CNI ${SUPPORTED_VERSIONS.join(', ')}\n`,
    )
    return 0
  }
  const invocation = readInvocation(process.argv0 ?? 'twill', process.env)
  const { stdout, status } = await answer(openLibc(), placesOf(process.env), invocation).catch(error =>
    failure(invocation.request, internalError(error)),
  )
  writeAll(1, stdout)
  return status
}

run().then(
  // reallyExit skips Bun's tear-down, a third of the whole run.
  status => (process as unknown as { reallyExit(status: number): never }).reallyExit(status),
  error => {
    process.stderr.write(`twill: ${messageOf(error)}\n`)
    process.exitCode = 1
  },
)
