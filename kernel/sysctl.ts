/**
 * Sysctls: files below /proc/sys. What is below net/ belongs to the namespace that the calling thread is in, by
 * whichever mount of it the file is reached.
 */

import { readFileSync, writeFileSync } from 'node:fs'
import { constants } from 'node:os'
import { TwillError } from '../lib/errors.ts'
import { kernelFailed } from './netlink/libc.ts'

export class Sysctls {
  readonly #root: string

  /** @param options.root /proc/sys, wherever it is mounted */
  constructor(options: { readonly root: string }) {
    this.#root = options.root
  }

  /** The value without its newline; null when there is no such path. @throws TwillError kernel.failed */
  read(path: string): string | null {
    try {
      return readFileSync(this.#fileOf(path), 'utf8').replace(/\n$/, '')
    } catch (error) {
      if (codeOf(error) === 'ENOENT') return null
      throw failed('read', path, error)
    }
  }

  /** @throws TwillError kernel.failed, with errno ENOENT when there is no such path */
  write(path: string, value: string): void {
    try {
      writeFileSync(this.#fileOf(path), value)
    } catch (error) {
      throw failed('write', path, error)
    }
  }

  /** @param path such as net/ipv4/ip_forward. @throws TwillError internal */
  #fileOf(path: string): string {
    if (path.startsWith('/') || path.split('/').some(part => part === '' || part === '.' || part === '..'))
      throw new TwillError('internal', `sysctl path ${JSON.stringify(path)}: expected names joined by /`)
    return `${this.#root}/${path}`
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
