/** Addresses that somebody asked for, from the texts of a request. Pure. */
import { formatIp, type Ip, parseIp } from '../../lib/address.ts'

/** CNI-226: whoever asks, and however it is spelled, each is asked for once. */
export function uniqueIps(texts: readonly string[]): Ip[] {
  return [...new Set(texts.map(text => formatIp(parseIp(text))))].map(parseIp)
}
