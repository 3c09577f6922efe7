/** The MAC that a pod's interface may have. */
import { HOST_MAC } from '../kernel/ownership.ts'

const MAC = /^([0-9a-f]{2}:){5}[0-9a-f]{2}$/
const NONE = '00:00:00:00:00:00'

const EXPECTED = `six octets of one interface such as 02:00:00:00:00:01, not the node's end's ${HOST_MAC}`

/** Of what `readMac` refused. */
export function macExpected(refused: unknown): string {
  const mac = String(refused).toLowerCase()
  return MAC.test(mac) && isGroup(mac)
    ? `${EXPECTED}: an odd first octet makes it the address of a group`
    : EXPECTED
}

/** In lower case; null: none that an interface may have, or that of the pod's gateway. */
export function readMac(text: string): string | null {
  const mac = text.toLowerCase()
  return !MAC.test(mac) || mac === NONE || mac === HOST_MAC || isGroup(mac) ? null : mac
}

const isGroup = (mac: string): boolean => (Number.parseInt(mac.slice(0, 2), 16) & 1) === 1
