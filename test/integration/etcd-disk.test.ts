/**
 * The disk full under all members of an etcd, which ends them, while nodes add and delete; room is made and they are
 * started again. Nothing is lost and nothing doubled. Needs root: the disk is a small file system of its own, in a
 * mount namespace that goes with the process holding it.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { appendFileSync, existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { loadedNodes, settle, until, untilBusy } from '../fixtures/address-load.ts'
import { startEtcdCluster } from '../fixtures/etcd-cluster.ts'

/** Each member reserves two segments of 64 MB for its log, and the nodes' records fit into what is left. */
const SIZE = '420m'

async function smallDisk() {
  const folder = mkdtempSync(join(tmpdir(), `twc-disk-${process.pid}-`))
  const script = `mount -t tmpfs -o size=${SIZE} twxetcd '${folder}' && touch '${folder}/mounted' && exec sleep infinity`
  const holder = spawn('unshare', ['--mount', '--propagation', 'private', 'sh', '-c', script])
  process.on('exit', () => holder.kill('SIGKILL'))
  const inside = `/proc/${holder.pid}/root${folder}`
  await until('the mount', () => existsSync(join(inside, 'mounted')))
  return {
    folder,
    within: ['nsenter', '--mount', '--target', String(holder.pid), '--'],
    fill() {
      const ballast = join(inside, 'ballast')
      for (let bytes = 1 << 20; bytes >= 4096; )
        try {
          appendFileSync(ballast, Buffer.alloc(bytes))
        } catch (error) {
          assert.is((error as NodeJS.ErrnoException).code, 'ENOSPC')
          bytes /= 4
        }
    },
    makeRoom: () => rmSync(join(inside, 'ballast')),
    async remove() {
      holder.kill('SIGKILL')
      await once(holder, 'exit')
      rmSync(folder, { recursive: true, force: true })
    },
  }
}

test('the disk is full under etcd until its members have ended; with room and a start all agree', async () => {
  const disk = await smallDisk()
  const etcd = await startEtcdCluster(disk)
  const nodes = await loadedNodes(etcd)
  try {
    await Promise.all(nodes.map(node => node.start()))
    await untilBusy(nodes, 50)
    disk.fill()
    await until('the quorum has gone', () => etcd.members.filter(({ running }) => running).length < 2)
    const refused = nodes.map(node => node.refused)
    await until('an ADD is told to wait', () =>
      nodes.some((node, i) => node.refused > (refused[i] as number)),
    )
    disk.makeRoom()
    await settle({ etcd, nodes })
  } finally {
    await Promise.all(nodes.map(node => node.close()))
    await etcd.remove()
    await disk.remove()
  }
})

test.run()
