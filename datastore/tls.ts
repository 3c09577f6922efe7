/**
 * What is wrong with certificates and keys, and what a TLS connection fails for, in words for operators.
 * A certificate that expired is no mistake: a new one may be on its way.
 */
import { createPrivateKey, X509Certificate } from 'node:crypto'
import { messageOf } from '../lib/errors.ts'

export interface TlsMaterial {
  readonly ca: Buffer
  readonly cert?: Buffer
  readonly key?: Buffer
}

export interface TlsMistake {
  readonly field: 'ca' | 'cert' | 'key'
  readonly message: string
}

/** What no server need be asked for; null: nothing. */
export function tlsMistake({ ca, cert, key }: Partial<TlsMaterial>): TlsMistake | null {
  const mistake = unreadable('ca', ca) ?? unreadable('cert', cert)
  if (mistake !== null || cert === undefined || key === undefined) return mistake
  try {
    if (new X509Certificate(cert).checkPrivateKey(createPrivateKey(key))) return null
    return {
      field: 'key',
      message: 'expected the private key of the certificate given with it, not of another certificate',
    }
  } catch (error) {
    return { field: 'key', message: `expected a private key in PEM: ${messageOf(error)}` }
  }
}

function unreadable(field: 'ca' | 'cert', pem: Buffer | undefined): TlsMistake | null {
  if (pem === undefined) return null
  try {
    new X509Certificate(pem)
    return null
  } catch (error) {
    return { field, message: `expected a certificate in PEM: ${messageOf(error)}` }
  }
}

/**
 * What is wrong with the server's certificate, in OpenSSL's words; null: nothing of that sort.
 * @param authority what its signer is looked for in
 */
export function certificateCause(said: string, authority: string): string | null {
  const otherHost = /does not match certificate's altnames: (.*)/.exec(said)
  if (otherHost !== null) return `its certificate is for another host: ${otherHost[1]}`
  if (/unable to verify|self.signed certificate|unable to get (local )?issuer/.test(said))
    return `its certificate is not signed by an authority of ${authority}`
  if (/certificate has expired/.test(said)) return 'its certificate has expired'
  if (/certificate is not yet valid/.test(said)) return 'its certificate is not valid yet'
  return null
}
