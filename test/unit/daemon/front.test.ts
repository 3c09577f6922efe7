/** What is taken back of an ADD whose client has gone: the very thing that it made, and nothing by name. */
import { mkdtempSync, rmSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { encodeRequest } from '../../../cni-bin/frame.ts'
import { createFront } from '../../../daemon/attach/front.ts'
import type { Gone } from '../../../daemon/attach/server.ts'
import { createVerbs, type VerbsModules } from '../../../daemon/attach/verbs.ts'
import type { Attachment, Lease } from '../../../daemon/journal/records.ts'
import { silentLog } from '../../../lib/log.ts'

const folder = mkdtempSync(join(tmpdir(), 'twill-front-'))
test.after(() => rmSync(folder, { recursive: true }))

const add = {
  environment: new Map(
    Object.entries({
      CNI_COMMAND: 'ADD',
      CNI_CONTAINERID: 'c1',
      CNI_NETNS: '/run/netns/x',
      CNI_IFNAME: 'eth0',
      CNI_PATH: '/opt/cni/bin',
    }),
  ),
  stdin: Buffer.from('{"cniVersion":"1.1.0","name":"net","type":"twill","ipam":{"type":"twill-ipam"}}'),
  netnsDev: '4',
  netnsIno: '99',
}

const attachment = { addresses: [], netns: { path: '/run/netns/x' } } as unknown as Attachment
const leased = { addresses: [] } as unknown as Lease

/** What is said to the stand-ins for an ADD whose client goes while it is served. */
async function abandoned(program: string, isNew = true): Promise<unknown[]> {
  let begun = () => {}
  const serving = new Promise<void>(resolve => {
    begun = resolve
  })
  const served = async <T>(result: T, gone: Gone): Promise<T> => {
    begun()
    while (!gone.aborted) await new Promise(resolve => setTimeout(resolve, 1))
    return result
  }
  const said: unknown[] = []
  const takeBack = async (made: unknown) => void said.push(made)
  const verbs = createVerbs({
    attachments: { add: (_: unknown, gone: Gone) => served(attachment, gone), takeBack },
    leases: { add: (_: unknown, gone: Gone) => served({ lease: leased, isNew }, gone), takeBack },
  } as unknown as VerbsModules)
  const path = join(folder, 'cni.sock')
  const modules = { verbs, metrics: { cniCall: () => undefined }, log: silentLog }
  const front = await createFront({ path }, modules)
  await front.listen()
  const socket = connect(path).on('error', () => undefined)
  socket.write(encodeRequest({ ...add, program }))
  await serving
  socket.destroy()
  await front.close()
  return said
}

test('an ADD whose client has gone is taken back; one that was answered as an earlier one is not', async () => {
  const [pod, lease, again] = [
    await abandoned('twill'),
    await abandoned('twill-ipam'),
    await abandoned('twill-ipam', false),
  ]
  assert.ok(pod.length === 1 && pod[0] === attachment)
  assert.ok(lease.length === 1 && lease[0] === leased)
  assert.equal(again, [])
})

test.run()
