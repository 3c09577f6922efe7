/** `npm run bench vxlan`: the overlay's part of `npm run bench attach` alone. */
import { measureOverlay, overlayRows } from './overlay.ts'
import { report, step } from './report.ts'

await report(async (stage, extent) => {
  await step('two nodes', () => stage.up(0))
  return overlayRows(await step('VXLAN', () => measureOverlay(stage, extent)))
})
