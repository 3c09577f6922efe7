/**
 * What a TLS connection to etcd fails for, in the words of the configuration. The other end says of a client's
 * certificate only that it is bad, whatever it is; what is wrong with it is looked up here.
 */
import { X509Certificate } from 'node:crypto'
import { certificateCause } from '../tls.ts'
import type { EtcdOptions } from './options.ts'

/**
 * @param text what gRPC says of the last attempt (`No connection established. Last error: …`)
 * @param nowMs REALTIME
 */
export function connectionReason(text: string, tls: EtcdOptions['tls'], nowMs: number): string {
  const said = /Last error: ([\s\S]*?)(?: \(\d{4}-[^)]*\))?\. Resolution note/.exec(text)?.[1] ?? text
  const cause = certificateCause(said, 'tls.ca')
  if (cause !== null) return cause
  const alert = /alert ([a-z ]+?):/.exec(said)?.[1]
  if (alert !== undefined) return ownCertificate(alert, tls, nowMs)
  if (said === 'Failed to connect') return 'it closed the connection at once: is it http or https there?'
  return said.replace(/^Error: /, '').trim()
}

function ownCertificate(alert: string, tls: EtcdOptions['tls'], nowMs: number): string {
  const refusal = `it refuses our certificate (TLS alert "${alert}")`
  if (tls?.cert === undefined) return `${refusal}: expected one in tls.cert and tls.key`
  const { validTo } = new X509Certificate(tls.cert)
  if (Date.parse(validTo) < nowMs) return `${refusal}: that of tls.cert expired on ${validTo}`
  return `${refusal}: is that of tls.cert signed by an authority that it trusts?`
}
