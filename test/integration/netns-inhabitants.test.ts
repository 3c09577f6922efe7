/** Who is still in a network namespace whose path is gone: real namespaces, with a process in them, a mount, neither. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readlinkSync, statSync } from 'node:fs'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { until } from '../../hack/rig/processes.ts'
import { isInhabited as isInhabitedBy } from '../../kernel/netns/inhabitants.ts'
import { run } from '../fixtures/netns-lab.ts'

const NAME = `twb${process.pid}-inhabited`
const children: ChildProcess[] = []

test.after(() => {
  for (const child of children) child.kill('SIGKILL')
})

const isInhabited = (inode: string) => isInhabitedBy(inode, '/proc')
const inodeOf = (path: string): string => statSync(path).ino.toString()

/** Nobody is left; asked again, since a namespace goes a little after its last process. */
const untilEmpty = (inode: string) =>
  until(
    async () => !(await isInhabited(inode)),
    10_000,
    () => `somebody is still in ${inode}`,
  )

test('a process in it, wherever its path was', async () => {
  const child = spawn('unshare', ['--net', 'sleep', '600'], { stdio: 'ignore' })
  children.push(child)
  const own = readlinkSync('/proc/self/ns/net')
  await until(
    () => readlinkSync(`/proc/${child.pid}/ns/net`) !== own,
    10_000,
    () => 'unshare has not moved',
  )
  const inode = inodeOf(`/proc/${child.pid}/ns/net`)
  assert.is(await isInhabited(inode), true)
  child.kill('SIGKILL')
  await once(child, 'exit')
  await untilEmpty(inode)
})

test('a mount of it, without a process', async () => {
  run('ip', 'netns', 'add', NAME)
  const inode = inodeOf(`/run/netns/${NAME}`)
  try {
    assert.is(await isInhabited(inode), true)
  } finally {
    run('ip', 'netns', 'delete', NAME)
  }
  await untilEmpty(inode)
})

test.run()
