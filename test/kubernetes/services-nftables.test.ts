/** Services where kube-proxy works by nftables, with Debian's containerd. */
import { serviceTests } from '../fixtures/kubernetes/services.ts'

const test = serviceTests('services by nftables', { proxy: 'nftables', containerd: '1.6' })

test.run()
