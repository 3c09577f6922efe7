/** Services where kube-proxy works by iptables, with the newest containerd. */
import { serviceTests } from '../fixtures/kubernetes/services.ts'

const test = serviceTests('services by iptables', { proxy: 'iptables', containerd: '2.4' })

test.run()
