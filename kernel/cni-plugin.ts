/**
 * Asks a CNI plugin which versions of the specification it speaks (VERSION, CNI-180). It is somebody else's program: it gets
 * nothing but the verb, little time, and what it prints is believed only if it is the one JSON object that it should be.
 */
import { execFile } from 'node:child_process'
import { dirname } from 'node:path'
import { messageOf, TwillError } from '../lib/errors.ts'

const PATIENCE_MS = 5_000
const OUTPUT_MAX = 64 << 10

/** @throws TwillError kernel.failed: it cannot be run, does not end, or does not answer with versions */
export async function pluginVersions(path: string, patienceMs = PATIENCE_MS): Promise<readonly string[]> {
  const versions = versionsOf(await run(path, patienceMs))
  if (versions === null) throw failed(path, 'does not say which versions of CNI it speaks')
  return versions
}

function run(path: string, timeout: number): Promise<string> {
  const env = { CNI_COMMAND: 'VERSION', CNI_PATH: dirname(path), PATH: process.env.PATH }
  const options = { env, timeout, killSignal: 'SIGKILL', maxBuffer: OUTPUT_MAX, cwd: '/' } as const
  return new Promise((resolve, reject) => {
    const child = execFile(path, [], options, (error, stdout) => {
      if (error === null) resolve(stdout)
      else reject(failed(path, whyOf(error, timeout)))
    })
    // It may end without reading.
    child.stdin?.on('error', () => undefined)
    child.stdin?.end('{"cniVersion":"1.0.0"}')
  })
}

function whyOf(error: Error & { code?: unknown; killed?: boolean }, timeoutMs: number): string {
  if (error.killed === true && error.code !== 'ERR_CHILD_PROCESS_STDIO_MAXBUFFER')
    return `does not answer VERSION within ${timeoutMs / 1000} s`
  return typeof error.code === 'number'
    ? `ends with status ${error.code} when asked for VERSION`
    : `cannot be run: ${messageOf(error)}`
}

function versionsOf(text: string): readonly string[] | null {
  let answer: unknown
  try {
    answer = JSON.parse(text)
  } catch {
    return null
  }
  const versions = (answer as { supportedVersions?: unknown } | null)?.supportedVersions
  return Array.isArray(versions) && versions.every(each => typeof each === 'string') ? versions : null
}

const failed = (path: string, why: string) => new TwillError('kernel.failed', `${path} ${why}`, { path })
