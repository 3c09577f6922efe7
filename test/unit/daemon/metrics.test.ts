/** What a scrape costs: a status takes long to put together in a large cluster. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type { Status } from '../../../daemon/api/types.ts'
import { createMetrics } from '../../../daemon/metrics.ts'

test('a scrape makes the status once, and each scrape its own', async () => {
  let made = 0
  const status = () => {
    const nodes = Array.from({ length: ++made })
    return {
      ready: true,
      datastore: { commits: 0 },
      kubernetes: null,
      nodes,
      parts: [],
      pods: [],
      leases: [],
    }
  }
  const metrics = createMetrics({ status: status as unknown as () => Status, audit: () => null })
  for (const scrape of [1, 2]) {
    assert.match(await metrics.text(), new RegExp(`^twill_nodes ${scrape}$`, 'm'))
    assert.is(made, scrape)
  }
})

test.run()
