/** What may be typed after hack/e2e-upstream. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { parse } from '../../../../hack/upstream/grammar.ts'
import { CONFORMANCE } from '../../../../hack/upstream/suite.ts'

test('without a word: the conformance tests on a rig of defaults, taken down afterwards', () => {
  const { focus, skip, processes, keep, rig } = parse([])
  assert.equal(
    { focus, skip, processes, keep },
    { focus: CONFORMANCE, skip: undefined, processes: undefined, keep: false },
  )
  assert.is(rig.nodes, undefined)
  assert.is(rig.wishes.proxy, undefined)
})

test('the focus and its options are this command’s, the others the rig’s', () => {
  const typed = parse([
    'DNS',
    '--cni',
    'bridge',
    '--proxy',
    'iptables',
    '--containerd',
    '2.4',
    '--nodes',
    '3',
    '--keep',
  ])
  assert.is(typed.focus, 'DNS')
  assert.is(typed.keep, true)
  assert.is(typed.rig.nodes, 3)
  const { cni, proxy, containerd } = typed.rig.wishes
  assert.equal({ cni, proxy, containerd }, { cni: 'bridge', proxy: 'iptables', containerd: '2.4' })
  assert.is(parse(['--processes', '4', '--skip', 'slow']).processes, 4)
  assert.is(parse(['--skip', 'slow']).skip, 'slow')
})

test('what is not understood is refused, not ignored', () => {
  assert.throws(() => parse(['DNS', 'Services']), /expected one FOCUS/)
  assert.throws(() => parse(['--processes', 'many']), /--processes many/)
  assert.throws(() => parse(['--proxy', 'ipvs']), /--proxy ipvs/)
  assert.throws(() => parse(['--what']), /--what/)
})

test.run()
