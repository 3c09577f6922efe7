/**
 * Is there anything to spare in the manifest? Runs the daemon's container on a node of the rig without each capability
 * and each mount in turn, and prints how it fails; one that it does without is an error. Takes some minutes.
 */

import type { CriClient } from '../test/fixtures/cri/client.ts'
import { installContainerd } from '../test/fixtures/cri/containerd.ts'
import { type DaemonSetPod, daemonSetPod, LOG_FILE, LOG_FOLDER } from '../test/fixtures/cri/daemonset.ts'
import { importImage, TwilldPod, writeTwillImage } from '../test/fixtures/cri/twilld-pod.ts'
import { Cluster } from './rig/cluster.ts'
import type { Machine } from './rig/machine.ts'
import { until } from './rig/processes.ts'

interface Need {
  readonly what: string
  readonly without: DaemonSetPod
  /** In its log, in its status, or in the answer to an ADD. */
  readonly sign: RegExp
}

const NODE = 'node1'
const manifest = daemonSetPod()
const [container] = manifest.containers
const { capabilities } = container.securityContext

const CAPABILITIES: Readonly<Record<string, RegExp>> = {
  NET_ADMIN: /netlink setsockopt: EPERM/,
  NET_BROADCAST: /netlink setsockopt: EPERM/,
  NET_RAW: /iptables-legacy: [^"]*(Permission denied|Operation not permitted)[^"]*/,
  SYS_ADMIN: /enter \/(var\/)?run\/netns\/\S+ EPERM/,
}

/** Without its configuration it would keep a datastore of its own: the volume belongs to the overlay. */
const MOUNTS: Readonly<Record<string, RegExp>> = {
  '/run/twill': /(EROFS|ENOENT)[^\n]*\/run/,
  '/var/lib/twill': /(EROFS|ENOENT)[^\n]*\/var\/lib/,
  '/etc/cni/net.d': /(EROFS|ENOENT)[^\n"]*\/etc\/cni/,
  '/opt/cni/bin': /(EROFS|ENOENT)[^\n"]*\/opt\/cni/,
  '/run/netns': /namespace \S+ cannot be opened: ENOENT/,
  '/host/proc/sys/net': /write sysctl net\/\S+: EROFS/,
  '/run/xtables.lock': /iptables-legacy: [^"]*xtables\.lock[^"]*/,
}

/** What it sees then is the file on which a namespace was mounted, which nobody may read. */
const PROPAGATION: Readonly<Record<string, RegExp>> = {
  '/run/netns': /namespace \S+ cannot be opened: EACCES/,
}

/** Goes with the mount: that a path is missing which a setting names proves nothing. */
const ONLY_FOR: Readonly<Record<string, string>> = { '/host/proc/sys/net': 'TWILL_HOST_SYSCTLS' }

const needs: readonly Need[] = [
  ...capabilities.add.map(what => {
    const add = capabilities.add.filter(name => name !== what)
    const securityContext = { ...container.securityContext, capabilities: { ...capabilities, add } }
    return need(what, CAPABILITIES[what], { ...container, securityContext })
  }),
  ...container.volumeMounts
    .map(({ mountPath }) => mountPath)
    .filter(path => path !== '/etc/twill')
    .map(what => {
      const volumeMounts = container.volumeMounts.filter(({ mountPath }) => mountPath !== what)
      const env = container.env.filter(({ name }) => name !== ONLY_FOR[what])
      return need(what, MOUNTS[what], { ...container, env, volumeMounts })
    }),
  ...container.volumeMounts
    .filter(({ mountPropagation }) => mountPropagation !== undefined)
    .map(({ mountPath: what }) => {
      const alone = ({ mountPropagation: _, ...mount }: (typeof container.volumeMounts)[number]) => mount
      const volumeMounts = container.volumeMounts.map(each => (each.mountPath === what ? alone(each) : each))
      return need(`propagation to ${what}`, PROPAGATION[what], { ...container, volumeMounts })
    }),
]

function need(what: string, sign: RegExp | undefined, lesser: typeof container): Need {
  if (sign === undefined) throw new Error(`${what}: nothing here says how the daemon fails without it`)
  return { what, sign, without: { ...manifest, containers: [lesser] } }
}

const rig = new Cluster(`needs-${process.pid}`)

/** A node whose legacy tables drop what they do not know, with the image on it. */
async function prepare(): Promise<CriClient> {
  await rig.up({ nodes: 1, daemons: false, config: { coolDown: '1s' } })
  const machine = rig.node(NODE)
  const client = await installContainerd(machine)
  await machine.script(`rm /opt/cni/bin/*; cd /usr/lib/cni; cp loopback portmap bandwidth /opt/cni/bin/
for program in iptables-legacy ip6tables-legacy; do $program -P FORWARD DROP; done`)
  await importImage(machine, writeTwillImage(rig.folder))
  await withDaemon(machine, client, manifest, async daemon => {
    await daemon.ready()
    await tryPod()
  })
  return client
}

async function withDaemon<T>(
  machine: Machine,
  client: CriClient,
  pod: DaemonSetPod,
  use: (daemon: TwilldPod) => Promise<T>,
): Promise<T> {
  await machine.script(`: >${LOG_FOLDER}/${LOG_FILE}; rm -f /run/twill/*.sock`)
  const daemon = new TwilldPod(machine, client, pod)
  try {
    await daemon.start()
    return await use(daemon)
  } finally {
    await daemon.stop()
  }
}

/** @throws CniError */
async function tryPod(): Promise<void> {
  try {
    await rig.addPod(NODE, 'tried')
  } finally {
    await rig.deletePod('tried').catch(() => undefined)
  }
}

async function everythingTold(daemon: TwilldPod): Promise<string> {
  const status = await rig.api(NODE, '/v1/status').catch(() => ({ body: '' }))
  if (!status.body.includes('"ready":true')) return `${daemon.log()}\n${status.body}`
  const added = await tryPod().then(
    () => 'a pod was added',
    error => (error as Error).message,
  )
  return `${daemon.log()}\n${status.body}\n${added}`
}

/** @throws Error: it does without */
async function failure({ what, without, sign }: Need, client: CriClient): Promise<string> {
  return withDaemon(rig.node(NODE), client, without, async daemon => {
    let told = ''
    await until(
      async () => {
        told = await everythingTold(daemon)
        return sign.test(told)
      },
      60_000,
      () => `without ${what} nothing like ${sign} is told:\n${told.slice(-2000)}`,
    )
    return sign.exec(told)?.[0] ?? ''
  })
}

try {
  const client = await prepare()
  console.log('with everything: a pod was added')
  for (const each of needs) console.log(`without ${each.what}: ${await failure(each, client)}`)
  client.close()
} catch (error) {
  console.error((error as Error).message)
  process.exitCode = 1
} finally {
  await rig.down()
}
