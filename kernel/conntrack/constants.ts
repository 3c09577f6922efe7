/** Numbers of linux/netfilter/nfnetlink_conntrack.h, in the header's names. */

const NFNL_SUBSYS_CTNETLINK = 1
const message = (number: number) => (NFNL_SUBSYS_CTNETLINK << 8) | number
export const IPCTNL_MSG_CT_GET = message(1)
export const IPCTNL_MSG_CT_DELETE = message(2)
export const IPCTNL_MSG_CT_GET_STATS = message(5)

export const CTA_STATS_GLOBAL_ENTRIES = 1

export const CTA_TUPLE_ORIG = 1
export const CTA_TUPLE_REPLY = 2
export const CTA_ID = 12
export const CTA_ZONE = 18
export const CTA_FILTER = 25

export const CTA_TUPLE_IP = 1
export const CTA_IP_V4_SRC = 1
export const CTA_IP_V4_DST = 2

export const CTA_FILTER_ORIG_FLAGS = 1
export const CTA_FILTER_REPLY_FLAGS = 2
export const CTA_FILTER_F_CTA_IP_SRC = 1
export const CTA_FILTER_F_CTA_IP_DST = 2
