/**
 * Where the node's own /proc is seen from here. A daemon in a container has PIDs and mounts of its own: its /proc shows
 * none of the node's processes, and its /proc/sys cannot be written.
 */

export interface HostPaths {
  /** The node's /proc/sys, of which net/ can be written. */
  readonly sysctls: string
  /** The node's /proc; null: its processes are not seen. */
  readonly proc: string | null
}

/** Of a daemon that runs on the node itself. */
export const OWN_PATHS: HostPaths = { sysctls: '/proc/sys', proc: '/proc' }
