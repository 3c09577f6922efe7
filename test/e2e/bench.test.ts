/** `npm run bench attach` works and prints a row for every goal. Its figures are of no worth here, and not looked at. */
import { spawnSync } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { ROOT } from '../../hack/rig/layout.ts'

const test = suite('bench')

const GOALS = [
  /^ADD, twill {2}.*bridge 1\.1\.1 .* ≤ 0\.25 x +(yes|NO)$/m,
  /^ADD, twill {2}.*ptp 1\.1\.1 .* ≤ 0\.3 x +(yes|NO)$/m,
  /^DEL, twill {2}.*bridge 1\.1\.1 .* ≤ 0\.1 x +(yes|NO)$/m,
  /^burst of ADDs, twill {2}.*bridge 1\.1\.1 .* ≤ 0\.25 x +(yes|NO)$/m,
  /^burst of DELs, twill {2}.*bridge 1\.1\.1 .* ≤ 0\.3 x +(yes|NO)$/m,
  /^churn of ADDs and DELs, twill {2}.*bridge 1\.1\.1 /m,
  /^DEL, then ADD of the same container, twill {2}.*bridge 1\.1\.1 /m,
  /^ADD, twill-offline {2}.*bridge 1\.1\.1 /m,
  /^VERSION, twill {2}.*\/bin\/true .* ≤ 2 x +(yes|NO)$/m,
  /^the daemon's share of ADD {2}.*kernel floor .* ≤ 1\.5 x +(yes|NO)$/m,
  /^ADD with 12 pods, twill {2}.*with none .* ≤ 1\.15 x +(yes|NO)$/m,
  /^ADD with 12 pods, bridge 1\.1\.1 {2}.*with none /m,
  /^etcd transactions for 6 pods .* ≤ 10 +(yes|NO)$/m,
  /^twilld resident, idle .* ≤ 90 MiB +(yes|NO)$/m,
  /^twilld resident, after 12 pods .* ≤ 110 MiB +(yes|NO)$/m,
  /^bare VXLAN device, TCP throughput .*host routes /m,
  /^bare VXLAN device, request and response .*host routes /m,
  /^VXLAN, TCP throughput .*host routes .* ≥ 0\.9 x +(yes|NO)$/m,
  /^VXLAN, request and response .*host routes .* ≤ 1\.35 x +(yes|NO)$/m,
]

test('the bench prints every figure that has a goal, and leaves nothing', () => {
  const before = rigs()
  const bench = spawnSync(join(ROOT, 'hack/bench'), ['attach', '--quick'], {
    encoding: 'utf8',
    timeout: 280_000,
  })
  assert.is(bench.status, 0, bench.stdout + bench.stderr)
  for (const goal of GOALS) assert.match(bench.stdout, goal)
  assert.match(bench.stdout, /^\d+ of 17 goals are met$/m)
  assert.match(bench.stdout, /reference plugins 1\.9\.1: not measured: /)
  assert.equal(rigs(), before)
})

/** Of benches that have ended: other rigs may stand. */
function rigs(): string[] {
  try {
    return readdirSync('/run/twill-rig').filter(name => name.startsWith('bench-'))
  } catch {
    return []
  }
}

const IPAM_FIGURES = [
  /^ADD, twill-ipam {2}.*host-local 1\.1\.1 .* ≤ 1 x +(yes|NO)$/m,
  /^DEL, twill-ipam {2}.*host-local 1\.1\.1 /m,
  /^burst of ADDs \(8\), twill-ipam {2}.*host-local 1\.1\.1 .* ≤ 1 x +(yes|NO)$/m,
  /^burst of DELs \(8\), twill-ipam {2}.*host-local 1\.1\.1 /m,
  /^one node, through the daemon's socket, answered +[\d.]+ \/s/m,
  /^one node, through the daemon's socket, counted in etcd .* ≥ 5000 \/s +(yes|NO)$/m,
  /^one node, without the socket, counted in etcd +[\d.]+ \/s/m,
  /^etcd transactions per allocation, burst of 100 .* ≤ 0\.05 +(yes|NO)$/m,
  /^4 nodes at once, counted in etcd .* ≥ 10000 \/s +(yes|NO)$/m,
  /^"no slot left" to a split-off part in use .* ≤ 2000 ms +(yes|NO)$/m,
  /^ipam check over 1000 allocations {2}.* ≤ 10000 ms +(yes|NO)$/m,
  /^ipam check over 1000 allocations, peak memory .* ≤ 500 MiB +(yes|NO)$/m,
]

test('that of addresses prints its figures too, and leaves nothing', () => {
  const before = rigs()
  const bench = spawnSync(join(ROOT, 'hack/bench'), ['ipam', '--quick'], {
    encoding: 'utf8',
    timeout: 180_000,
  })
  assert.is(bench.status, 0, bench.stdout + bench.stderr)
  for (const figure of IPAM_FIGURES) assert.match(bench.stdout, figure)
  assert.match(bench.stdout, /^\d+ of 8 goals are met$/m)
  assert.equal(rigs(), before)
})

test('that of a cluster of many nodes plays all of it, and frees what the lost nodes had', () => {
  const bench = spawnSync(join(ROOT, 'hack/bench'), ['ipam-scale', '--nodes', '40', '--lost', '3'], {
    encoding: 'utf8',
    timeout: 120_000,
  })
  assert.is(bench.status, 0, bench.stdout + bench.stderr)
  for (const scenario of [
    /^\| all nodes start \| 0 \|/m,
    /^\| first deployment \| 1200 \|/m,
    /^\| rolling restart of the daemons \| 0 \|/m,
    /^\| full redeployment \| 1200 \|/m,
    /^\| 3 nodes lost at once \| \d+ \|/m,
    /^\| until their addresses are free \| 0 \|/m,
  ])
    assert.match(bench.stdout, scenario)
  assert.match(bench.stdout, /^in all \d+ pods started: [\d.]+ writes each, \d+ bytes watched by a node/m)
  assert.match(bench.stdout, /; 1200 pods hold \d+ % of the \d+ addresses in \d+ parts that nodes own$/m)
})

test('what is no bench is refused with how to call one', () => {
  const bench = spawnSync(join(ROOT, 'hack/bench'), ['overlay'], { encoding: 'utf8' })
  assert.is(bench.status, 2)
  assert.match(bench.stderr, /usage: npm run bench attach\|ipam\|vxlan/)
})

test.run()
