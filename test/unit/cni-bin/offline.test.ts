import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { attachmentId } from '../../../cni-bin/attachment-id.ts'
import { dispatch } from '../../../cni-bin/dispatch.ts'
import type { Answer, Request } from '../../../cni-bin/frame.ts'
import { type OfflineModules, offlineVerbs } from '../../../cni-bin/offline.ts'

function requestOf(command: string, config: object, program: string): Request {
  return {
    program,
    environment: new Map([
      ['CNI_COMMAND', command],
      ['CNI_CONTAINERID', 'c1'],
      ['CNI_NETNS', '/run/netns/x'],
      ['CNI_IFNAME', 'eth0'],
      ['CNI_PATH', '/opt/cni/bin'],
    ]),
    stdin: Buffer.from(JSON.stringify({ cniVersion: '1.1.0', name: 'net', prevResult: {}, ...config })),
    netnsDev: '4',
    netnsIno: '9',
  }
}

/** Runs one command without a daemon and writes down what it does, in order. */
async function run(
  command: string,
  changes: Partial<OfflineModules> = {},
  reason: 'away' | 'silent' = 'away',
  config: object = {},
  program = 'twill',
) {
  const deeds: string[] = []
  const modules: OfflineModules = {
    removePodLinks: id => {
      deeds.push(`remove ${id}`)
      return []
    },
    spool: name => {
      deeds.push(`spool ${name}`)
      return 'entry'
    },
    unspool: entry => deeds.push(`unspool ${entry}`),
    askAgain: () => {
      deeds.push('ask')
      return null
    },
    daemonLastAliveMs: () => null,
    warn: message => deeds.push(`warn ${message}`),
    ...changes,
  }
  const request = requestOf(command, config, program)
  const context = { ownNetns: null, stdinFailure: null }
  const answer = await dispatch(request, context, offlineVerbs(request, reason, modules))
  return { answer, deeds, code: answer.status === 0 ? 0 : JSON.parse(answer.stdout).code }
}

const id = attachmentId('net', 'c1', 'eth0')
const answering = (status: number) => (): Answer => ({ status, stdout: '' })
const failing = (message: string) => (): never => {
  throw new Error(message)
}

test('CNI-190: the name of an attachment is what links and journals of earlier versions carry', () => {
  assert.is(id, '26026bd18b7cde682ae8b772c36d68c0')
  assert.is.not(id, attachmentId('netc1', '', 'eth0'))
})

test('DEL: link, spool, one more try, in this order', async () => {
  const { answer, deeds } = await run('DEL')
  assert.equal(answer, { status: 0, stdout: '' })
  assert.equal(deeds, [`remove ${id}`, `spool ${id}`, 'ask'])
})

test('CNI-242 DEL as twill-ipam: filed under a name of its own, and no link is touched', async () => {
  const { answer, deeds } = await run('DEL', {}, 'away', {}, 'twill-ipam')
  assert.is(answer.status, 0)
  assert.equal(deeds, [`spool ipam-${id}`, 'ask'])
})

test('DEL: the entry goes only when the daemon has done it', async () => {
  assert.equal((await run('DEL', { askAgain: answering(0) })).deeds.at(-1), 'unspool entry')
  const refused = await run('DEL', { askAgain: answering(1) })
  assert.is(refused.code, 0)
  assert.is(refused.deeds.at(-1), `spool ${id}`)
})

test('CNI-134 DEL: a link that cannot be removed does not keep the release from being filed', async () => {
  const { code, deeds } = await run('DEL', { removePodLinks: failing('EPERM') })
  assert.is(code, 0)
  assert.equal(deeds, ['warn twill: EPERM', `spool ${id}`, 'ask'])
})

test('DEL: a spool that cannot be written is 11, and nobody is asked', async () => {
  const { code, deeds } = await run('DEL', { spool: failing('ENOSPC') })
  assert.is(code, 11)
  assert.equal(deeds, [`remove ${id}`])
})

test('ADD and CHECK are 11, say why, and touch nothing', async () => {
  for (const command of ['ADD', 'CHECK'])
    for (const [reason, text] of [
      ['away', /not running/],
      ['silent', /does not answer/],
    ] as const) {
      const { code, deeds, answer } = await run(command, {}, reason)
      assert.is(code, 11)
      assert.match(JSON.parse(answer.stdout).msg, text)
      assert.equal(deeds, [])
    }
})

const nothingValid = { 'cni.dev/valid-attachments': [] }

test('CNI-161 GC is filed for the daemon, which is tried once more', async () => {
  const filed = await run('GC', {}, 'away', nothingValid)
  assert.is(filed.code, 0)
  assert.equal(filed.deeds, [`spool gc-${attachmentId('net', '', '')}`, 'ask'])
  const answered = await run('GC', { askAgain: answering(0) }, 'away', nothingValid)
  assert.is(answered.deeds.at(-1), 'unspool entry')
  assert.is((await run('GC', { spool: failing('ENOSPC') }, 'away', nothingValid)).code, 11)
})

test('CNI-164 GC without a list files nothing', async () => {
  const { code, deeds } = await run('GC')
  assert.equal([code, deeds], [0, []])
})

test('CNI-167 GC files nothing while a silent daemon may be at an ADD', async () => {
  const { code, deeds } = await run('GC', {}, 'silent', nothingValid)
  assert.equal([code, deeds], [11, []])
})

test('CNI-171 STATUS: 30 s of grace', async () => {
  for (const [age, code] of [
    [0, 0],
    [30_000, 0],
    [30_001, 50],
    [null, 50],
  ] as const)
    assert.is((await run('STATUS', { daemonLastAliveMs: () => age })).code, code, String(age))
})

test.run()
