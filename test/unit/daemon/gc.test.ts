/** GC against recording stand-ins: whom it takes down, whom it must not, and what becomes of failures. */
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { attachmentId, leaseId } from '../../../cni-bin/attachment-id.ts'
import { CniError } from '../../../cni-bin/cni-error.ts'
import { writeSpooled } from '../../../cni-bin/spool.ts'
import type { AttachmentKey } from '../../../daemon/attach/attachments.ts'
import { collectGarbage } from '../../../daemon/attach/gc.ts'
import { Spool } from '../../../daemon/attach/spool.ts'
import { createVerbs } from '../../../daemon/attach/verbs.ts'
import type { Attachment, Lease } from '../../../daemon/journal/records.ts'
import { systemClock } from '../../../lib/clock.ts'
import { TwillError } from '../../../lib/errors.ts'
import { silentLog } from '../../../lib/log.ts'

function attached(containerId: string, ifName = 'eth0', network = 'twill'): Attachment {
  return {
    id: attachmentId(network, containerId, ifName),
    network,
    containerId,
    ifName,
    netns: { path: '/run/netns/x', dev: '4', ino: '7' },
    netnsCookie: 'cookie',
    hostInterface: 'twl000000000001',
    podMac: '02:00:00:00:00:01',
    mtu: 1450,
    addresses: [],
    pod: null,
    boot: 'boot:1',
    begunBoottimeMs: 100,
    since: 0,
    state: 'attached',
  }
}

function bed(known: Attachment[], failing: Record<string, Error> = {}) {
  const deeds: string[] = []
  const modules = {
    registry: { all: () => known },
    attachments: {
      async del({ network, containerId, ifName }: AttachmentKey, begunBefore?: number) {
        deeds.push(`${network}/${containerId}/${ifName} ${begunBefore}`)
        if (failing[containerId]) throw failing[containerId]
      },
    },
    leases: {
      all: () => [],
      busy: () => new Set<string>(),
      async del({ network, containerId, ifName }: AttachmentKey, begunBefore?: number) {
        deeds.push(`lease ${network}/${containerId}/${ifName} ${begunBefore}`)
      },
    },
    log: silentLog,
    clock: { ...systemClock, boottimeMs: () => 500 },
  }
  return { deeds, modules }
}

const lease = (containerId: string, network = 'twill') => ({
  id: leaseId(network, containerId, 'eth0'),
  network,
  containerId,
  ifName: 'eth0',
})

const valid = (...ids: string[]) => ids.map(containerId => ({ containerId, ifName: 'eth0' }))

test('CNI-161: what is not listed goes, by container and by interface', async () => {
  const { deeds, modules } = bed([attached('a'), attached('b'), attached('a', 'eth1')])
  await collectGarbage({ plugin: 'twill', network: 'twill', validAttachments: valid('a') }, 500, modules)
  assert.equal(deeds, ['twill/b/eth0 500', 'twill/a/eth1 500'])
})

test('CNI-161: never of another network', async () => {
  const { deeds, modules } = bed([attached('a', 'eth0', 'other'), attached('b')])
  await collectGarbage({ plugin: 'twill', network: 'twill', validAttachments: [] }, 500, modules)
  assert.equal(deeds, ['twill/b/eth0 500'])
})

test('CNI-164: no list is no reason', async () => {
  const { deeds, modules } = bed([attached('a')])
  await collectGarbage({ plugin: 'twill', network: 'twill', validAttachments: null }, 500, modules)
  assert.equal(deeds, [])
})

test('CNI-167: an ADD under way is let alone', async () => {
  const { deeds, modules } = bed([{ ...attached('a'), state: 'attaching' }, attached('b')])
  await collectGarbage({ plugin: 'twill', network: 'twill', validAttachments: [] }, 500, modules)
  assert.equal(deeds, ['twill/b/eth0 500'])
})

function gcVerb(failing: Record<string, Error>) {
  const { deeds, modules } = bed([attached('a'), attached('b'), attached('c')], failing)
  const verbs = createVerbs({ ...modules, servable: () => ({ ok: true }) } as unknown as Parameters<
    typeof createVerbs
  >[0])
  const request = {
    command: 'GC',
    plugin: 'twill',
    cniVersion: '1.1.0',
    network: 'twill',
    validAttachments: valid('c'),
  } as const
  return {
    deeds,
    answer: verbs.gc(request).then(
      () => null,
      (error: CniError) => error,
    ),
  }
}

test('CNI-161: one that fails does not stop the others, and each failure is named', async () => {
  const busy = new TwillError('kernel.failed', 'busy')
  const later = new TwillError('journal.write-failed', 'disk full')
  const { deeds, answer } = gcVerb({ a: busy, b: later })
  const error = await answer
  assert.equal(deeds, ['twill/a/eth0 500', 'twill/b/eth0 500'])
  assert.instance(error, CniError)
  assert.match(error?.details ?? '', /eth0 of a: busy; eth0 of b: disk full/)
})

test('CNI-161: 11 only when each failure may be over at the next try', async () => {
  const retryable = new TwillError('store.unavailable', 'away', {}, { retryable: true })
  assert.is((await gcVerb({ a: retryable, b: retryable }).answer)?.code, 11)
  assert.is((await gcVerb({ a: retryable, b: new TwillError('kernel.failed', 'no') }).answer)?.code, 999)
  assert.is(await gcVerb({}).answer, null)
})

test('CNI-161, CNI-243: called as twill-ipam it goes through leases, and touches no attachment of ours', async () => {
  const { deeds, modules } = bed([attached('a'), attached('b')])
  const all = () => [lease('a'), lease('b'), lease('c', 'other'), lease('young')] as Lease[]
  const busy = () => new Set([lease('young').id])
  const leases = { ...modules.leases, all, busy }
  const request = { plugin: 'twill-ipam', network: 'twill', validAttachments: valid('a') } as const
  await collectGarbage(request, 500, { ...modules, leases })
  assert.equal(deeds, ['lease twill/b/eth0 500'])
  await collectGarbage({ ...request, plugin: 'twill' }, 500, { ...modules, leases })
  assert.equal(deeds.slice(1), ['twill/b/eth0 500'])
})

async function drained(boot: string): Promise<{ deeds: string[]; left: string[] }> {
  const folder = mkdtempSync(join(tmpdir(), 'twill-gc-'))
  const config = { cniVersion: '1.1.0', name: 'twill', 'cni.dev/valid-attachments': [] }
  const request = {
    program: 'twill',
    environment: new Map([
      ['CNI_COMMAND', 'GC'],
      ['CNI_PATH', '/opt/cni/bin'],
    ]),
    stdin: Buffer.from(JSON.stringify(config)),
    netnsDev: null,
    netnsIno: null,
  }
  writeSpooled(folder, 'gc-x', { boot, boottimeMs: 300, realtimeMs: 0, request })
  const { deeds, modules } = bed([attached('a')], { a: new TwillError('kernel.failed', 'busy') })
  const spool = new Spool({ folder, boot: 'boot:1' }, modules)
  await spool.start()
  spool.stop()
  const left = readdirSync(folder)
  rmSync(folder, { recursive: true })
  return { deeds, left }
}

test('CNI-161: a GC that was filed is done, and touches only what was begun before it in its own boot', async () => {
  assert.equal(await drained('boot:1'), { deeds: ['twill/a/eth0 300'], left: [] })
  assert.equal((await drained('boot:0')).deeds, ['twill/a/eth0 0'])
})

test.run()
