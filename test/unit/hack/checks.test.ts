/** The checkers themselves: each rule must accept the right thing and refuse the wrong one. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { HOUSE_RULES, offences } from '../../../hack/check-house-rules.ts'
import { violations } from '../../../hack/check-imports.ts'

const imports = (file: string, specifier: string) =>
  violations(file, `import { x } from '${specifier}'\n`).map(violation => violation.imported)

test('imports point one way', () => {
  assert.equal(imports('daemon/attach/a.ts', '../../lib/errors.ts'), [])
  assert.equal(imports('lib/errors.ts', '../daemon/loop.ts'), ['daemon/loop.ts'])
  assert.equal(imports('kernel/netlink/a.ts', '../../datastore/store.ts'), ['datastore/store.ts'])
  assert.equal(imports('ipam/pools.ts', '../routing/vxlan/plan.ts'), ['routing/vxlan/plan.ts'])
})

test('cli sees of the daemon only its API types', () => {
  assert.equal(imports('cli/main.ts', '../daemon/api/types.ts'), [])
  assert.equal(imports('cli/main.ts', '../daemon/loop.ts'), ['daemon/loop.ts'])
})

test('cni-bin may use kernel/netlink, not the kernel', () => {
  assert.equal(imports('cni-bin/offline.ts', '../kernel/netlink/transport.ts'), [])
  assert.equal(imports('cni-bin/offline.ts', '../kernel/nft/table.ts'), ['kernel/nft/table.ts'])
})

test('multi-line, type-only, re-exporting and dynamic imports are seen', () => {
  for (const text of [
    "import {\n  a,\n  b,\n} from '../daemon/x.ts'",
    "import type { A } from '../daemon/x.ts'",
    "export * from '../daemon/x.ts'",
    "import '../daemon/x.ts'",
    "await import('../daemon/x.ts')",
  ]) {
    assert.is(violations('lib/a.ts', text).length, 1, text)
  }
})

const judged = (file: string, source: string) =>
  HOUSE_RULES.flatMap(rule => offences(rule, file, source)).length

test('house rules refuse what they name', () => {
  assert.is(judged('daemon/a.ts', 'let count = 0\n'), 1)
  assert.is(judged('daemon/a.ts', 'const t = Date.now()\n'), 1)
  assert.is(judged('ipam/a.ts', 'const r = Math.random()\n'), 1)
  assert.is(judged('routing/a.ts', "import { spawn } from 'node:child_process'\n"), 1)
  assert.is(judged('lib/string-utils.ts', ''), 1)
  assert.is(judged('lib/a.ts', 'x\n'.repeat(700)), 1)
})

test('house rules accept what is right', () => {
  assert.is(judged('daemon/a.ts', 'function f() {\n  let count = 0\n}\n// Date.now() is not used\n'), 0)
  assert.is(judged('lib/clock.ts', 'const t = Date.now()\n'), 0)
})

test.run()
