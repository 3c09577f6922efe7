/** Attaches, detaches and reaps pod 1 in the namespace named by the first argument; dies where TWILL_FAULT says. */
import { createKernel } from '../../kernel/real.ts'
import { silentLog } from '../../lib/log.ts'
import { podSpec, refOf } from './kernel-world.ts'

const spec = podSpec(1, refOf(process.argv[2] as string))
const kernel = await createKernel({}, { log: silentLog })
await kernel.attachPod(spec, [])
await kernel.detachPod(spec, [])
await kernel.reapLinks(spec.addresses.map(({ address }) => address))
await kernel.close()
