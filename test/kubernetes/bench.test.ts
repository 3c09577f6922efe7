/** Benches on a real Kubernetes work and print what they are for. Their figures are of no worth here, and not looked at. */
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ROOT } from '../../hack/rig/layout.ts'

const bench = (...words: readonly string[]) =>
  spawnSync(join(ROOT, 'hack/bench'), words, { encoding: 'utf8', timeout: 600_000 })

const GOALS = [
  /^3 pods at once, all Ready .*bridge, host-local .* ≤ 0\.9 x +(yes|NO)$/m,
  /^the plugin's share of a pod's start .* ≤ 15 ms +(yes|NO)$/m,
  /^API server requests for a pod, watches apart .* ≤ 2 +(yes|NO)$/m,
  /^twilld resident, 50 pods in the cluster .* ≤ 150 MiB +(yes|NO)$/m,
]

test('what a pod costs: every figure that has a goal', () => {
  const { status, stdout, stderr } = bench('kubernetes', '--quick')
  assert.is(status, 0, stdout + stderr)
  for (const goal of GOALS) assert.match(stdout, goal)
})

test('what following a cluster costs: pods of this node and others, for each size of a page', () => {
  const { status, stdout, stderr } = bench('kubernetes-watch', '--pods', '200')
  assert.is(status, 0, stdout + stderr)
  assert.match(stdout, /^(\| \d+ \| 2 \| 198 (\| [\d.]+ ){5}\|\n){4}/m)
})

test.run()
