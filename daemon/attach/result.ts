/** What ADD reports of an attachment: pure (CNI-071 to CNI-074). */
import { type CniResult, type Dns, mergeResults } from '../../cni-bin/result.ts'
import { GATEWAY, HOST_MAC } from '../../kernel/ownership.ts'
import { bitsOf } from '../../lib/address.ts'
import type { Attachment } from '../journal/records.ts'

const DEFAULT_ROUTE = { 4: '0.0.0.0/0', 6: '::/0' } as const

const HOST_END = 0
const POD_END = 1

/** `previous` is of the plugin before us in the chain; its entries stay first and unchanged (CNI-112). */
export function addResult(attachment: Attachment, previous: CniResult | null, dns: Dns): CniResult {
  return mergeResults(previous, ownResult(attachment, dns))
}

function ownResult(attachment: Attachment, dns: Dns): CniResult {
  const none = { socketPath: null, pciID: null }
  const interfaces: CniResult['interfaces'][number][] = []
  interfaces[HOST_END] = {
    name: attachment.hostInterface,
    mac: HOST_MAC,
    mtu: attachment.mtu,
    sandbox: null,
    ...none,
  }
  interfaces[POD_END] = {
    name: attachment.ifName,
    mac: attachment.podMac,
    mtu: attachment.mtu,
    sandbox: attachment.netns.path,
    ...none,
  }
  return {
    interfaces,
    ips: attachment.addresses.map(({ family, address }) => ({
      address: `${address}/${bitsOf(family)}`,
      gateway: GATEWAY[family],
      interface: POD_END,
    })),
    routes: attachment.addresses.map(({ family }) => ({
      dst: DEFAULT_ROUTE[family],
      gw: GATEWAY[family],
      mtu: null,
      advmss: null,
      priority: null,
      table: null,
      scope: null,
    })),
    dns,
  }
}
