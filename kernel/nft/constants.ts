/** Numbers of linux/netfilter/nfnetlink.h and nf_tables.h, in the headers' names. */

export const NFPROTO_INET = 1

const NFNL_SUBSYS_NFTABLES = 10
export const NFNL_MSG_BATCH_BEGIN = 0x10
export const NFNL_MSG_BATCH_END = 0x11

const message = (number: number) => (NFNL_SUBSYS_NFTABLES << 8) | number
export const NFT_MSG_GETTABLE = message(1)
export const NFT_MSG_GETCHAIN = message(4)
export const NFT_MSG_GETRULE = message(7)
export const NFT_MSG_GETSET = message(10)
export const NFT_MSG_NEWSETELEM = message(12)
export const NFT_MSG_GETSETELEM = message(13)
export const NFT_MSG_DELSETELEM = message(14)
export const NFT_MSG_GETGEN = message(16)

export const NFTA_GEN_ID = 1

export const NFTA_TABLE_NAME = 1
export const NFTA_TABLE_FLAGS = 2
export const NFTA_TABLE_HANDLE = 4

export const NFTA_CHAIN_TABLE = 1
export const NFTA_CHAIN_HANDLE = 2
export const NFTA_CHAIN_NAME = 3
export const NFTA_CHAIN_HOOK = 4
export const NFTA_CHAIN_POLICY = 5

export const NFTA_RULE_TABLE = 1
export const NFTA_RULE_CHAIN = 2
export const NFTA_RULE_HANDLE = 3

export const NFTA_SET_TABLE = 1
export const NFTA_SET_NAME = 2
export const NFTA_SET_FLAGS = 3
export const NFTA_SET_KEY_TYPE = 4
export const NFTA_SET_KEY_LEN = 5
export const NFTA_SET_HANDLE = 16
export const NFT_SET_ANONYMOUS = 0x1

export const NFTA_SET_ELEM_LIST_TABLE = 1
export const NFTA_SET_ELEM_LIST_SET = 2
export const NFTA_SET_ELEM_LIST_ELEMENTS = 3
export const NFTA_LIST_ELEM = 1
export const NFTA_SET_ELEM_KEY = 1
export const NFTA_SET_ELEM_FLAGS = 3
export const NFTA_SET_ELEM_KEY_END = 10
export const NFTA_DATA_VALUE = 1

export const NFPROTO_IPV4 = 2
export const NFPROTO_IPV6 = 10
export const NF_INET_LOCAL_IN = 1
export const NF_INET_FORWARD = 2
export const NFTA_HOOK_HOOKNUM = 1

export const NFTA_RULE_EXPRESSIONS = 4
export const NFTA_EXPR_NAME = 1
export const NFTA_EXPR_DATA = 2
export const NFTA_TARGET_NAME = 1
export const NFTA_IMMEDIATE_DATA = 2
export const NFTA_DATA_VERDICT = 2
export const NFTA_VERDICT_CODE = 1
export const NFTA_VERDICT_CHAIN = 2
export const NF_DROP = 0
export const NFT_JUMP = -3
export const NFT_GOTO = -4
