"""Numbers of ipset's netlink (include/uapi/linux/netfilter/ipset/ip_set.h)."""

from __future__ import annotations

from struct import Struct
from typing import Literal

from hairpin.state.ipset import SetFamily, SetType
from hairpin.state.ipvs import Protocol

Verb = Literal["add", "set", "remove"]

_NFNL_SUBSYS_IPSET = 6
NFGENMSG = Struct("=BBH").pack(2, 0, 0)
"""Family, version, resource; the kernel looks at none of them."""
NET_BYTEORDER = 0x4000

PROTOCOL = 6
"""IPSET_PROTOCOL_MIN: kernels before 4.20 know no later one, and none since has dropped it."""

CMD_CREATE = 2
CMD_DESTROY = 3
CMD_LIST = 7
CMD_TYPE = 13
ENTRY_COMMANDS: dict[Verb, int] = {"add": 9, "set": 9, "remove": 10}
ENTRY_VERBS: dict[int, Verb] = {9: "add", 10: "remove"}

# Of a message.
ATTR_PROTOCOL = 1
ATTR_SETNAME = 2
ATTR_TYPENAME = 3
ATTR_REVISION = 4
ATTR_FAMILY = 5
ATTR_FLAGS = 6
ATTR_DATA = 7
ATTR_ADT = 8

FLAG_LIST_HEADER = 4  # a dump without entries
FLAG_NOMATCH = 4  # of an entry's CADT_FLAGS

# Of a set and of an entry.
ATTR_IP = 1
ATTR_PORT = 4
ATTR_PORT_TO = 5
ATTR_TIMEOUT = 6
ATTR_PROTO = 7
ATTR_CADT_FLAGS = 8
ATTR_MAXELEM = 19
ATTR_IP2 = 20
ATTR_CIDR2 = 21
ATTR_IPADDR_IPV4 = 1
ATTR_IPADDR_IPV6 = 2

DEFAULT_MAXELEM = 65536  # IPSET_DEFAULT_MAXELEM

FAMILIES: dict[SetFamily | None, int] = {None: 0, "inet": 2, "inet6": 10}
FAMILY_NAMES = {number: name for name, number in FAMILIES.items()}
PROTOCOLS: dict[Protocol, int] = {"TCP": 6, "UDP": 17, "SCTP": 132}
PROTOCOL_NAMES = {number: name for name, number in PROTOCOLS.items()}

REVISIONS: dict[SetType, int] = {
    "hash:ip": 5,
    "hash:ip,port": 6,
    "hash:ip,port,ip": 6,
    "hash:ip,port,net": 8,
    "bitmap:port": 3,
}
"""The latest revision of each type that ``ipset`` 7.17 (Debian 12) knows.  That program lists no
set of a revision that it does not know, and later ones bring nothing that is needed here."""

FIRST_ERROR = 4096
"""IPSET_ERR_PRIVATE: numbers from here on are ipset's own, above every errno."""

ERRORS = {
    4097: ("IPSET_ERR_PROTOCOL", "the kernel did not understand the message"),
    4098: ("IPSET_ERR_FIND_TYPE", "the kernel has no such set type (is its module loaded?)"),
    4099: ("IPSET_ERR_MAX_SETS", "the kernel holds no more sets"),
    4100: ("IPSET_ERR_BUSY", "the set is in use by a rule or another set"),
    4101: ("IPSET_ERR_EXIST_SETNAME2", "there is a set of the second name"),
    4102: ("IPSET_ERR_TYPE_MISMATCH", "the sets are of different types"),
    4103: ("IPSET_ERR_EXIST", "the entry is there already, or is not there"),
    4104: ("IPSET_ERR_INVALID_CIDR", "no such prefix length (0 is none)"),
    4105: ("IPSET_ERR_INVALID_NETMASK", "no such netmask"),
    4106: ("IPSET_ERR_INVALID_FAMILY", "the set type does not exist for this family"),
    4107: ("IPSET_ERR_TIMEOUT", "the set has no timeouts"),
    4108: ("IPSET_ERR_REFERENCED", "the set is referred to"),
    4109: ("IPSET_ERR_IPADDR_IPV4", "an IPv4 address is wanted"),
    4110: ("IPSET_ERR_IPADDR_IPV6", "an IPv6 address is wanted"),
    4111: ("IPSET_ERR_COUNTER", "the set has no counters"),
    4112: ("IPSET_ERR_COMMENT", "the set has no comments"),
    4113: ("IPSET_ERR_INVALID_MARKMASK", "no such mask of marks"),
    4114: ("IPSET_ERR_SKBINFO", "the set has no skbinfo"),
}
"""Errors of all set types: symbol and words."""

HASH_ERRORS = {
    4352: ("IPSET_ERR_HASH_FULL", "the set is full (maxelem)"),
    4353: ("IPSET_ERR_HASH_ELEM", "an address of all zeros cannot be stored"),
    4354: ("IPSET_ERR_INVALID_PROTO", "no such IP protocol"),
    4355: ("IPSET_ERR_MISSING_PROTO", "the entry needs an IP protocol"),
    4356: ("IPSET_ERR_HASH_RANGE_UNSUPPORTED", "no ranges in this set"),
    4357: ("IPSET_ERR_HASH_RANGE", "no such range"),
}
"""Those of hash types (ip_set_hash.h)."""

BITMAP_ERRORS = {
    4352: ("IPSET_ERR_BITMAP_RANGE", "outside the range of the set"),
    4353: ("IPSET_ERR_BITMAP_RANGE_SIZE", "no such range for a set"),
}
"""Those of bitmap types (ip_set_bitmap.h)."""


def kind(command: int) -> int:
    """nlmsg_type of a command."""
    return _NFNL_SUBSYS_IPSET << 8 | command
