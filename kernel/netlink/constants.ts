/** Numbers of linux/netlink.h, rtnetlink.h, if_link.h, if_addr.h, neighbour.h, veth.h, net_namespace.h, in the headers' names. */

export const AF_INET = 2
export const AF_BRIDGE = 7
export const AF_INET6 = 10
export const AF_NETLINK = 16

export const NETLINK_ROUTE = 0
export const NETLINK_NETFILTER = 12

export const NLMSG_NOOP = 1
export const NLMSG_ERROR = 2
export const NLMSG_DONE = 3

export const NLM_F_REQUEST = 0x1
export const NLM_F_ACK = 0x4
export const NLM_F_ECHO = 0x8
export const NLM_F_DUMP_INTR = 0x10
export const NLM_F_DUMP = 0x300
export const NLM_F_REPLACE = 0x100
export const NLM_F_EXCL = 0x200
export const NLM_F_CREATE = 0x400
export const NLM_F_APPEND = 0x800
export const NLM_F_CAPPED = 0x100
export const NLM_F_ACK_TLVS = 0x200
export const NLA_F_NESTED = 0x8000

export const NLMSGERR_ATTR_MSG = 1

export const SOL_NETLINK = 270
export const NETLINK_ADD_MEMBERSHIP = 1
export const NETLINK_LISTEN_ALL_NSID = 8
export const NETLINK_CAP_ACK = 10
export const NETLINK_EXT_ACK = 11
export const NETLINK_GET_STRICT_CHK = 12

export const RTM_NEWLINK = 16
export const RTM_DELLINK = 17
export const RTM_GETLINK = 18
export const RTM_SETLINK = 19
export const RTM_NEWADDR = 20
export const RTM_DELADDR = 21
export const RTM_GETADDR = 22
export const RTM_NEWROUTE = 24
export const RTM_DELROUTE = 25
export const RTM_GETROUTE = 26
export const RTM_NEWNEIGH = 28
export const RTM_DELNEIGH = 29
export const RTM_GETNEIGH = 30

export const RTNLGRP_LINK = 1
export const RTNLGRP_NEIGH = 3
export const RTNLGRP_IPV4_IFADDR = 5
export const RTNLGRP_IPV4_ROUTE = 7
export const RTNLGRP_IPV6_IFADDR = 9
export const RTNLGRP_IPV6_ROUTE = 11
export const NFNLGRP_NFTABLES = 7
/** nfnetlink.h: opens a transaction; an error on it means that nothing after it was looked at. */
export const NFNL_MSG_BATCH_BEGIN = 0x10
export const NFNL_SUBSYS_NFTABLES = 10

export const IFF_UP = 0x1
export const IFF_LOOPBACK = 0x8
export const IFF_LOWER_UP = 0x10000

export const IFLA_ADDRESS = 1
export const IFLA_IFNAME = 3
export const IFLA_MTU = 4
export const IFLA_LINK = 5
export const IFLA_MASTER = 10
export const IFLA_LINKINFO = 18
export const IFLA_IFALIAS = 20
export const IFLA_AF_SPEC = 26
export const IFLA_GROUP = 27
export const IFLA_NET_NS_FD = 28
export const IFLA_EXT_MASK = 29
export const IFLA_LINK_NETNSID = 37
export const IFLA_TARGET_NETNSID = 46
export const RTEXT_FILTER_SKIP_STATS = 8
export const IFLA_INFO_KIND = 1
export const IFLA_INFO_DATA = 2
export const VETH_INFO_PEER = 1
export const IFLA_INET6_ADDR_GEN_MODE = 8
/** Within AF_INET of IFLA_AF_SPEC: switches of net.ipv4.conf, numbered as in linux/ip.h. */
export const IFLA_INET_CONF = 1
export const IPV4_DEVCONF_ARPFILTER = 13
export const IN6_ADDR_GEN_MODE_NONE = 1

export const IFA_ADDRESS = 1
export const IFA_LOCAL = 2
export const IFA_FLAGS = 8
export const IFA_F_NODAD = 0x02

export const RTA_DST = 1
export const RTA_OIF = 4
export const RTA_GATEWAY = 5
export const RTA_PRIORITY = 6
export const RTA_PREFSRC = 7
export const RTA_METRICS = 8
export const RTA_TABLE = 15
export const RTAX_MTU = 2
export const RTNH_F_ONLINK = 4
export const RT_TABLE_UNSPEC = 0
export const RT_TABLE_MAIN = 254
export const RT_SCOPE_UNIVERSE = 0
export const RT_SCOPE_LINK = 253
export const RTN_UNICAST = 1
export const RTN_LOCAL = 2
export const RTN_BROADCAST = 3
export const RTN_BLACKHOLE = 6
export const RTN_UNREACHABLE = 7
/** Cloned entries (an IPv6 exception, a cached lookup) are no routes of anybody's. */
export const RTM_F_CLONED = 0x200

export const NDA_DST = 1
export const NDA_LLADDR = 2
export const NUD_FAILED = 0x20
export const NUD_NOARP = 0x40
export const NUD_PERMANENT = 0x80
export const NTF_SELF = 0x02

export const SOL_SOCKET = 1
export const SO_RCVTIMEO = 20
export const SO_RCVBUFFORCE = 33
/** Since Linux 5.14. */
export const SO_NETNS_COOKIE = 71
export const CLONE_NEWNET = 0x40000000
