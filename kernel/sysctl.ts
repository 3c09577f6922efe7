/**
 * Sysctls: files below /proc/sys. What is below net/ belongs to the namespace that the calling thread is in.
 */

import { readFileSync, writeFileSync } from 'node:fs'
import { constants } from 'node:os'
import { TwillError } from '../lib/errors.ts'
import { kernelFailed } from './netlink/libc.ts'

/** @param path such as net/ipv4/ip_forward. @throws TwillError kernel.failed */
function fileOf(path: string): string {
  if (path.startsWith('/') || path.split('/').some(part => part === '' || part === '.' || part === '..'))
    throw new TwillError('internal', `sysctl path ${JSON.stringify(path)}: expected names joined by /`)
  return `/proc/sys/${path}`
}

/** The value without its newline; null when there is no such path. @throws TwillError kernel.failed */
export function readSysctl(path: string): string | null {
  try {
    return readFileSync(fileOf(path), 'utf8').replace(/\n$/, '')
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return null
    throw failed('read', path, error)
  }
}

/** @throws TwillError kernel.failed, with errno ENOENT when there is no such path */
export function writeSysctl(path: string, value: string): void {
  try {
    writeFileSync(fileOf(path), value)
  } catch (error) {
    throw failed('write', path, error)
  }
}

function codeOf(error: unknown): string {
  return (error as NodeJS.ErrnoException).code ?? ''
}

function failed(verb: string, path: string, error: unknown): TwillError {
  if (error instanceof TwillError) return error
  const errno = constants.errno[codeOf(error) as keyof typeof constants.errno] ?? 0
  return kernelFailed(`${verb} sysctl ${path}`, errno, '')
}
