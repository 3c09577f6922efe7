/**
 * twill-offline: the whole plugin in one file compiled by Bun. Called by a runtime it asks the daemon like the
 * conduit; called by the conduit (TWILL_CONDUIT) or left alone by the daemon it answers by itself (alone.ts).
 *
 * Trap: on success of ADD stdout holds the result and nothing else (CNI-006), so all chatter goes to stderr.
 * Trap: what is imported here is loaded by every call, and one node: module takes longer than the rest of a call
 * that the daemon answers. Those stand behind the import() of alone.ts.
 */
import { askDaemon, type DaemonReply } from './daemon-client.ts'
import { type Answer, encodeRequest } from './frame.ts'
import { type Invocation, readInvocation } from './invocation.ts'
import { type Libc, openLibc } from './libc.ts'

const SILENCE_MS = 10_000

/** The variable is for tests; whoever sets it is root already. */
const socketPath = (): string => process.env.TWILL_CNI_SOCKET || '/run/twill/cni.sock'

function firstReply(libc: Libc, invocation: Invocation): DaemonReply {
  const conduit = process.env.TWILL_CONDUIT
  if (conduit === 'away' || conduit === 'silent') return { answer: null, reason: conduit }
  // Refused here in any case, and such a frame cannot be sent.
  if (invocation.stdinFailure !== null) return { answer: null, reason: 'away' }
  return askDaemon(libc, socketPath(), encodeRequest(invocation.request), SILENCE_MS)
}

async function answer(libc: Libc, invocation: Invocation): Promise<Answer> {
  try {
    const reply = firstReply(libc, invocation)
    if (reply.answer !== null) return reply.answer
    const { answerAlone } = await import('./alone.ts')
    return await answerAlone(libc, socketPath(), invocation, reply.reason)
  } catch (error) {
    const { failure, internalError } = await import('./alone.ts')
    return failure(invocation.request, internalError(error))
  }
}

/** False when not all of it could be written. */
function print(libc: Libc, fd: number, text: string): boolean {
  const bytes = Buffer.from(text)
  for (let at = 0; at < bytes.length; ) {
    const written = libc.write(fd, bytes.subarray(at))
    if (written < 0) return false
    at += written
  }
  return true
}

async function run(): Promise<number> {
  const libc = openLibc()
  if (!process.env.CNI_COMMAND) {
    const { INTRODUCTION } = await import('./alone.ts')
    print(libc, 2, INTRODUCTION)
    return 0
  }
  const invocation = readInvocation(libc, process.argv0 ?? 'twill', process.env)
  const { stdout, status } = await answer(libc, invocation)
  return print(libc, 1, stdout) ? status : 1
}

run().then(
  // reallyExit skips Bun's tear-down, a third of the whole run.
  status => (process as unknown as { reallyExit(status: number): never }).reallyExit(status),
  error => {
    process.stderr.write(`twill: ${error instanceof Error ? error.message : String(error)}\n`)
    process.exitCode = 1
  },
)
