/**
 * nf_tables requests. Each begins with struct nfgenmsg: u8 family · u8 version 0 · u16 resource, big-endian.
 *
 * A transaction is one datagram: BATCH_BEGIN, changes, BATCH_END; the kernel takes all of it or nothing.
 */
import { NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL } from '../netlink/constants.ts'
import type { Datagram } from '../netlink/datagram.ts'
import {
  NFNL_MSG_BATCH_BEGIN,
  NFNL_MSG_BATCH_END,
  NFPROTO_INET,
  NFT_MSG_DELSETELEM,
  NFT_MSG_GETGEN,
  NFT_MSG_NEWSETELEM,
  NFTA_DATA_VALUE,
  NFTA_LIST_ELEM,
  NFTA_SET_ELEM_KEY,
  NFTA_SET_ELEM_LIST_ELEMENTS,
  NFTA_SET_ELEM_LIST_SET,
  NFTA_SET_ELEM_LIST_TABLE,
} from './constants.ts'

/** NFNL_SUBSYS_NFTABLES as a big-endian u16, read the host's way round. */
const RESOURCE_NFTABLES = 10 << 8

export interface ElementChange {
  readonly type: 'add' | 'delete'
  readonly set: string
  readonly key: Buffer
}

/** Bytes one change takes in a datagram, at most, with names of up to 31 bytes and the longest key. */
export const ELEMENT_CHANGE_BYTES = 16 + 4 + 36 + 36 + 4 + 4 + 4 + 4 + 64

export function writeGenerationRequest(datagram: Datagram): Datagram {
  return datagram.reset().begin(NFT_MSG_GETGEN, 0).u8(0).u8(0).u16(0)
}

/** A dump of what is in one table; `tableAttribute` is the request type's attribute for its name. */
export function writeDumpRequest(
  datagram: Datagram,
  type: number,
  tableAttribute: number,
  table: string,
): Datagram {
  return datagram.reset().begin(type, 0).u8(NFPROTO_INET).u8(0).u16(0).attrString(tableAttribute, table)
}

/** The changes in order, each failing by itself: EEXIST for an element that is there, ENOENT for one that is not. */
export function writeTransaction(
  datagram: Datagram,
  table: string,
  changes: readonly ElementChange[],
): Datagram {
  datagram.reset().begin(NFNL_MSG_BATCH_BEGIN, 0).u8(0).u8(0).u16(RESOURCE_NFTABLES)
  for (const change of changes) writeElementChange(datagram, table, change)
  datagram.addFlags(NLM_F_ACK)
  return datagram.begin(NFNL_MSG_BATCH_END, 0).u8(0).u8(0).u16(RESOURCE_NFTABLES)
}

function writeElementChange(datagram: Datagram, table: string, change: ElementChange): void {
  if (change.type === 'add') datagram.begin(NFT_MSG_NEWSETELEM, NLM_F_CREATE | NLM_F_EXCL)
  else datagram.begin(NFT_MSG_DELSETELEM, 0)
  datagram
    .u8(NFPROTO_INET)
    .u8(0)
    .u16(0)
    .attrString(NFTA_SET_ELEM_LIST_TABLE, table)
    .attrString(NFTA_SET_ELEM_LIST_SET, change.set)
    .nest(NFTA_SET_ELEM_LIST_ELEMENTS)
    .nest(NFTA_LIST_ELEM)
    .nest(NFTA_SET_ELEM_KEY)
    .attr(NFTA_DATA_VALUE, change.key)
    .end()
    .end()
    .end()
}
