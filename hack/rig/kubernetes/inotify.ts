/**
 * Every containerd, kubelet, kube-proxy and shim of a rig watches files, and the kernel counts what one user watches on
 * the whole machine: 128 instances, its default, are for one node. Without one kubelet ends ("too many open files").
 */
import { readFileSync, writeFileSync } from 'node:fs'

const LIMIT = '/proc/sys/fs/inotify/max_user_instances'

/** For several rigs of several nodes. */
export const ENOUGH_INSTANCES = 1024

/**
 * For the whole machine, and it stays so.
 * @returns what was done, as a sentence; undefined where it suffices, or where this may not be changed: then a program
 *   that finds too few says so
 */
export function raiseInotifyLimit(file = LIMIT): string | undefined {
  const found = Number(readFileSync(file, 'utf8'))
  if (found >= ENOUGH_INSTANCES) return undefined
  try {
    writeFileSync(file, `${ENOUGH_INSTANCES}\n`)
  } catch {
    return undefined
  }
  return `fs.inotify.max_user_instances of this machine from ${found} to ${ENOUGH_INSTANCES}`
}
