"""Numbers and names of IPVS's generic netlink family (include/uapi/linux/ip_vs.h)."""

from __future__ import annotations

from typing import Literal

from hairpin.state.ipvs import Checksum, Forwarding, Protocol, SchedulerFlag

Verb = Literal["add", "set", "remove"]

FAMILY_NAME = "IPVS"
VERSION = 1

GET_SERVICE = 4
GET_DEST = 8
SET_CONFIG = 12
GET_CONFIG = 13
GET_INFO = 15
ZERO = 16
FLUSH = 17
SERVICE_COMMANDS: dict[Verb, int] = {"add": 1, "set": 2, "remove": 3}
DEST_COMMANDS: dict[Verb, int] = {"add": 5, "set": 6, "remove": 7}
VERBS: dict[int, Verb] = {1: "add", 2: "set", 3: "remove", 5: "add", 6: "set", 7: "remove"}

CMD_ATTR_SERVICE = 1
CMD_ATTR_DEST = 2
CMD_ATTR_TIMEOUT_TCP = 4
CMD_ATTR_TIMEOUT_TCP_FIN = 5
CMD_ATTR_TIMEOUT_UDP = 6

SVC_ATTR_AF = 1
SVC_ATTR_PROTOCOL = 2
SVC_ATTR_ADDR = 3
SVC_ATTR_PORT = 4
SVC_ATTR_FWMARK = 5
SVC_ATTR_SCHED_NAME = 6
SVC_ATTR_FLAGS = 7
SVC_ATTR_TIMEOUT = 8
SVC_ATTR_NETMASK = 9
SVC_ATTR_STATS = 10
SVC_ATTR_PE_NAME = 11
SVC_ATTR_STATS64 = 12

DEST_ATTR_ADDR = 1
DEST_ATTR_PORT = 2
DEST_ATTR_FWD_METHOD = 3
DEST_ATTR_WEIGHT = 4
DEST_ATTR_U_THRESH = 5
DEST_ATTR_L_THRESH = 6
DEST_ATTR_ACTIVE_CONNS = 7
DEST_ATTR_INACT_CONNS = 8
DEST_ATTR_PERSIST_CONNS = 9
DEST_ATTR_STATS = 10
DEST_ATTR_ADDR_FAMILY = 11
DEST_ATTR_STATS64 = 12
DEST_ATTR_TUN_TYPE = 13
DEST_ATTR_TUN_PORT = 14
DEST_ATTR_TUN_FLAGS = 15

# Totals are 1 to 5, rates 6 to 10: connections, packets in, out, bytes in, out.
STATS_ATTR_CONNS = 1
STATS_ATTR_CPS = 6

INFO_ATTR_VERSION = 1
INFO_ATTR_CONN_TAB_SIZE = 2

SVC_F_PERSISTENT = 0x1
SVC_F_ONEPACKET = 0x4
SCHEDULER_BITS: dict[SchedulerFlag, int] = {1: 0x8, 2: 0x10, 3: 0x20}

AF_INET = 2
AF_INET6 = 10
PROTOCOLS: dict[Protocol, int] = {"TCP": 6, "UDP": 17, "SCTP": 132}
PROTOCOL_NAMES = {number: name for name, number in PROTOCOLS.items()}
FORWARDING: dict[Forwarding, int] = {
    "masquerade": 0,
    "local": 1,
    "tunnel": 2,
    "route": 3,
    "bypass": 4,
}
FORWARDING_NAMES = {number: name for name, number in FORWARDING.items()}
FWD_MASK = 0x7  # IP_VS_CONN_F_FWD_MASK; the other bits are the connection's, not ours
TUNNELS: dict[Literal["gue", "gre"], int] = {"gue": 1, "gre": 2}  # 0 is IPIP
TUNNEL_NAMES = {number: name for name, number in TUNNELS.items()}
CHECKSUMS: dict[Checksum, int] = {"none": 0, "full": 1, "remote": 2}
