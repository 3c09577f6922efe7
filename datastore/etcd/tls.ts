/**
 * What a TLS connection to etcd fails for, in the words of the configuration. The other end says of a client's
 * certificate only that it is bad, whatever it is; what is wrong with it is looked up here.
 */
import { createPrivateKey, X509Certificate } from 'node:crypto'
import { messageOf } from '../../lib/errors.ts'
import type { EtcdOptions } from './options.ts'

type Tls = NonNullable<EtcdOptions['tls']>

export interface TlsMistake {
  readonly field: 'ca' | 'cert' | 'key'
  readonly message: string
}

/** What no server need be asked for; null: nothing. An expired certificate is none: a new one may be on its way. */
export function tlsMistake({ ca, cert, key }: Tls): TlsMistake | null {
  const mistake = unreadable('ca', ca) ?? (cert === undefined ? null : unreadable('cert', cert))
  if (mistake !== null || cert === undefined || key === undefined) return mistake
  try {
    if (new X509Certificate(cert).checkPrivateKey(createPrivateKey(key))) return null
    return { field: 'key', message: 'expected the private key of tls.cert, not of another certificate' }
  } catch (error) {
    return { field: 'key', message: `expected a private key in PEM: ${messageOf(error)}` }
  }
}

function unreadable(field: 'ca' | 'cert', pem: Buffer): TlsMistake | null {
  try {
    new X509Certificate(pem)
    return null
  } catch (error) {
    return { field, message: `expected a certificate in PEM: ${messageOf(error)}` }
  }
}

const CAUSES: readonly [RegExp, string][] = [
  [
    /unable to verify|self.signed certificate|unable to get (local )?issuer/,
    'its certificate is not signed by an authority of tls.ca',
  ],
  [/certificate has expired/, 'its certificate has expired'],
  [/certificate is not yet valid/, 'its certificate is not valid yet'],
]

/**
 * @param text what gRPC says of the last attempt (`No connection established. Last error: …`)
 * @param nowMs REALTIME
 */
export function connectionReason(text: string, tls: EtcdOptions['tls'], nowMs: number): string {
  const said = /Last error: ([\s\S]*?)(?: \(\d{4}-[^)]*\))?\. Resolution note/.exec(text)?.[1] ?? text
  const otherHost = /does not match certificate's altnames: (.*)/.exec(said)
  if (otherHost !== null) return `its certificate is for another host: ${otherHost[1]}`
  for (const [pattern, cause] of CAUSES) if (pattern.test(said)) return cause
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
