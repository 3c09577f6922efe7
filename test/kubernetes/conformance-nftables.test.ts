/** Kubernetes' own conformance tests of the network, each as one of ours: kube-proxy with nftables, containerd 1.6. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { runUpstream } from '../../hack/upstream/run.ts'
import { CONFORMANCE, CONFORMANCE_TESTS } from '../../hack/upstream/suite.ts'

const { results, logs } = await runUpstream({
  name: `conformance-${process.pid}`,
  up: { cni: 'twill', proxy: 'nftables', containerd: '1.6' },
  focus: CONFORMANCE,
  timeoutMs: 1_200_000,
})
const conformance = suite('conformance, nftables, containerd 1.6')

conformance(`all ${CONFORMANCE_TESTS} ran`, () => {
  assert.is(results.length, CONFORMANCE_TESTS)
})

for (const { name, state, message } of results)
  conformance(name, () => {
    assert.is(state, 'passed', `${message} (logs: ${logs})`)
  })

conformance.run()
