/** Names in a rig's cluster: CoreDNS as a Deployment behind the Service that kubelets tell pods of. */
import { join } from 'node:path'
import type { Kubectl } from './kubectl.ts'

const MANIFEST = join(import.meta.dirname, 'coredns.yaml')
const TIMEOUT_MS = 300_000

/** Its pod starts as soon as a node is Ready. */
export async function applyDns(kubectl: Kubectl): Promise<void> {
  await kubectl.must(['apply', '-f', MANIFEST])
}

/** @throws Error: it does not become ready */
export async function awaitDns(kubectl: Kubectl): Promise<void> {
  await kubectl.wait(['-n', 'kube-system', '--for=condition=Available', 'deployment/coredns'], TIMEOUT_MS)
}
