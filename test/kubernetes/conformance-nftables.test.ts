/** The conformance tests of the network, with kube-proxy by nftables and containerd 1.6. */
import { conformanceTests } from '../fixtures/kubernetes/conformance.ts'

const test = await conformanceTests('conformance, nftables, containerd 1.6', {
  proxy: 'nftables',
  containerd: '1.6',
})

test.run()
