/** Who is measured side by side: Twill in two shapes, and the reference plugins in two versions. */
import { join } from 'node:path'
import { goTool, goToolVersion } from '../hack/go/tools.ts'
import { messageOf } from '../lib/errors.ts'
import type { Job } from './spawner.ts'

export interface Competitor {
  readonly name: string
  /** Executes CNI_COMMAND for pod `n`, in namespace /run/netns/bench<n>. */
  job(command: 'ADD' | 'DEL' | 'VERSION', n: number): Job
}

interface Shape {
  readonly name: string
  /** Folder of the executables inside the node. */
  readonly folder: string
  readonly program: string
  /** Without name and version. */
  readonly config: object
}

/** Debian's. */
const DEBIAN = '/opt/cni/bin'

export const TWILL: Shape = { name: 'twill', folder: DEBIAN, program: 'twill', config: { type: 'twill' } }

/** As the references are run here: one IPv4 address. */
export const TWILL_V4: Shape = {
  ...TWILL,
  name: 'twill-v4',
  config: { type: 'twill', twill: { families: ['IPv4'] } },
}

export const OFFLINE: Shape = { ...TWILL, name: 'twill-offline', program: 'twill-offline' }

/** Asked as a plugin that makes interfaces asks it. */
export const TWILL_IPAM: Shape = {
  name: 'twill-ipam',
  folder: DEBIAN,
  program: 'twill-ipam',
  config: { type: 'bridge', ipam: { type: 'twill-ipam', pools: ['bench'] } },
}

export const HOST_LOCAL: Shape = {
  ...TWILL_IPAM,
  name: 'host-local 1.1.1',
  program: 'host-local',
  config: {
    type: 'bridge',
    ipam: { type: 'host-local', ranges: [[{ subnet: '10.90.0.0/16' }]], dataDir: '/run/bench-host-local' },
  },
}

/** Each has a subnet and a bridge of its own. */
export function reference(type: 'bridge' | 'ptp', folder = DEBIAN, version = '1.1.1'): Shape {
  const number = (type === 'bridge' ? 0 : 1) + (version === '1.1.1' ? 0 : 2)
  const name = `${type} ${version}`
  const ipam = {
    type: 'host-local',
    ranges: [[{ subnet: `10.${80 + number}.0.0/16` }]],
    routes: [{ dst: '0.0.0.0/0' }],
    dataDir: `/run/bench-ipam-${number}`,
  }
  const bridge = type === 'bridge' ? { bridge: `benchbr${number}`, isGateway: true } : {}
  return { name, folder, program: type, config: { type, ...bridge, ipam } }
}

export function competitor({ name, folder, program, config }: Shape): Competitor {
  const input = JSON.stringify({ cniVersion: '1.0.0', name: `bench-${name.replace(/\W/g, '-')}`, ...config })
  const ours = program.startsWith('twill')
  return {
    name,
    job: (command, n) => ({
      program: join(folder, program),
      input,
      environment: {
        PATH: '/usr/sbin:/usr/bin:/sbin:/bin',
        CNI_COMMAND: command,
        CNI_CONTAINERID: `${ours ? 'twill' : program}-bench-${n}`,
        CNI_NETNS: `/run/netns/bench${n}`,
        CNI_IFNAME: 'eth0',
        CNI_PATH: folder,
        CNI_ARGS: `IgnoreUnknown=1;K8S_POD_NAMESPACE=bench;K8S_POD_NAME=bench-${n}`,
      },
    }),
  }
}

/**
 * The newer reference plugins, built from their module where they are missing.
 * @returns their folder, or why there is none
 */
export async function buildNewerReference(): Promise<{ folder: string } | { reason: string }> {
  try {
    return { folder: await goTool('cni-plugins') }
  } catch (error) {
    return { reason: messageOf(error) }
  }
}

export const newerVersion = goToolVersion('cni-plugins')
