/** The conformance tests of the network, with kube-proxy by iptables and containerd 2.4. */
import { conformanceTests } from '../fixtures/kubernetes/conformance.ts'

const test = await conformanceTests('conformance, iptables, containerd 2.4', {
  proxy: 'iptables',
  containerd: '2.4',
})

test.run()
