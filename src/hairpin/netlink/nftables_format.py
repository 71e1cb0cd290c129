"""Numbers of nf_tables' netlink (include/uapi/linux/netfilter/nf_tables.h, nfnetlink.h).

Data types of set keys are nft's own and mean nothing to the kernel (enum datatypes in nftables'
include/datatype.h); without them ``nft list`` would not know how to print an element.
"""

from __future__ import annotations

from struct import Struct

from hairpin.netlink import message as wire
from hairpin.state.ipvs import Protocol
from hairpin.state.nftables import Field, KeyType, NftFamily

SUBSYSTEM = 10  # NFNL_SUBSYS_NFTABLES
BATCH_BEGIN = 0x10
BATCH_END = 0x11
_NFGENMSG = Struct(">BBH")  # family, version, resource

FAMILIES: dict[NftFamily, int] = {"ip": 2, "ip6": 10, "inet": 1}
FAMILY_NAMES = {number: name for name, number in FAMILIES.items()}

NEWTABLE, GETTABLE, DELTABLE = 0, 1, 2
NEWCHAIN, GETCHAIN, DELCHAIN = 3, 4, 5
NEWRULE, GETRULE, DELRULE = 6, 7, 8
NEWSET, GETSET, DELSET = 9, 10, 11
NEWSETELEM, GETSETELEM, DELSETELEM = 12, 13, 14
NEWGEN, GETGEN = 15, 16

LIST_ELEM = 1

TABLE_NAME, TABLE_FLAGS, TABLE_USERDATA = 1, 2, 6
TABLE_DORMANT = 1  # NFT_TABLE_F_DORMANT
CHAIN_TABLE, CHAIN_NAME, CHAIN_HOOK, CHAIN_POLICY, CHAIN_TYPE, CHAIN_USERDATA = 1, 3, 4, 5, 7, 12
HOOK_HOOKNUM, HOOK_PRIORITY = 1, 2
RULE_TABLE, RULE_CHAIN, RULE_HANDLE, RULE_EXPRESSIONS, RULE_USERDATA = 1, 2, 3, 4, 7
SET_TABLE, SET_NAME, SET_FLAGS, SET_KEY_TYPE, SET_KEY_LEN, SET_DATA_TYPE, SET_DATA_LEN = range(1, 8)
SET_DESC, SET_ID, SET_TIMEOUT, SET_USERDATA = 9, 10, 11, 13
SET_DESC_SIZE, SET_DESC_CONCAT, SET_FIELD_LEN = 1, 2, 1
ELEM_KEY, ELEM_DATA, ELEM_FLAGS, ELEM_USERDATA, ELEM_KEY_END = 1, 2, 3, 6, 10
ELEMS_TABLE, ELEMS_SET, ELEMS_ELEMENTS, ELEMS_SET_ID = 1, 2, 3, 4
GEN_ID = 1

DATA_VALUE, DATA_VERDICT = 1, 2
VERDICT_CODE, VERDICT_CHAIN = 1, 2
EXPR_NAME, EXPR_DATA = 1, 2

FLAG_ANONYMOUS, FLAG_CONSTANT, FLAG_INTERVAL, FLAG_MAP = 0x1, 0x2, 0x4, 0x8
FLAG_TIMEOUT, FLAG_DYNAMIC, FLAG_CONCAT = 0x10, 0x20, 0x80
INTERVAL_END = 0x1

VERDICTS = {"drop": 0, "accept": 1, "jump": -3, "goto": -4, "return": -5}
VERDICT_NAMES = {number: name for name, number in VERDICTS.items()}

HOOKS = {"prerouting": 0, "input": 1, "forward": 2, "output": 3, "postrouting": 4}
HOOK_NAMES = {number: name for name, number in HOOKS.items()}
POLICIES = {"drop": 0, "accept": 1}
POLICY_NAMES = {number: name for name, number in POLICIES.items()}

TYPE_VERDICT = 0xFFFFFF00  # NFT_DATA_VERDICT
TYPE_INTEGER = 4
TYPE_BITS = 6  # by which each further part of a concatenation shifts those before it
TYPES: dict[KeyType, tuple[int, int]] = {  # nft's number, bytes
    "ipv4_addr": (7, 4),
    "ipv6_addr": (8, 16),
    "inet_proto": (12, 1),
    "inet_service": (13, 2),
    "mark": (19, 4),
    "ifname": (41, 16),
}
TYPE_NAMES = {number: name for name, (number, _) in TYPES.items()}

PROTOCOLS: dict[Protocol, int] = {"TCP": 6, "UDP": 17, "SCTP": 132}
PROTOCOL_NAMES = {number: name for name, number in PROTOCOLS.items()}

FIELD_TYPES: dict[Field, KeyType | None] = {  # None: no part of a key
    "ip saddr": "ipv4_addr",
    "ip daddr": "ipv4_addr",
    "ip6 saddr": "ipv6_addr",
    "ip6 daddr": "ipv6_addr",
    "th sport": "inet_service",
    "th dport": "inet_service",
    "meta l4proto": "inet_proto",
    "meta mark": "mark",
    "meta iifname": "ifname",
    "meta oifname": "ifname",
    "ct state": None,
    "ct status": None,
    "fib saddr type": None,
    "fib daddr type": None,
}

NETWORK_HEADER, TRANSPORT_HEADER = 1, 2
PAYLOADS: dict[Field, tuple[int, int, int]] = {  # base, offset, bytes
    "ip saddr": (NETWORK_HEADER, 12, 4),
    "ip daddr": (NETWORK_HEADER, 16, 4),
    "ip6 saddr": (NETWORK_HEADER, 8, 16),
    "ip6 daddr": (NETWORK_HEADER, 24, 16),
    "th sport": (TRANSPORT_HEADER, 0, 2),
    "th dport": (TRANSPORT_HEADER, 2, 2),
}
PAYLOAD_FIELDS = {place[:2]: field for field, place in PAYLOADS.items()}
META_MARK, META_NFTRACE = 3, 12
METAS: dict[Field, int] = {
    "meta mark": META_MARK,
    "meta iifname": 6,
    "meta oifname": 7,
    "meta l4proto": 16,
}
META_FIELDS = {number: field for field, number in METAS.items()}
CTS: dict[Field, int] = {"ct state": 0, "ct status": 2}
CT_FIELDS = {number: field for field, number in CTS.items()}
CT_WORDS: dict[Field, dict[str, int]] = {
    "ct state": {"invalid": 1, "established": 2, "related": 4, "new": 8, "untracked": 64},
    "ct status": {  # enum ip_conntrack_status, as nft(8) names them
        "expected": 1,
        "seen-reply": 2,
        "assured": 4,
        "confirmed": 8,
        "snat": 16,
        "dnat": 32,
        "dying": 512,
    },
}
FIB_TYPE = 3  # NFT_FIB_RESULT_ADDRTYPE
FIBS: dict[Field, int] = {"fib saddr type": 1, "fib daddr type": 2}
FIB_FIELDS = {number: field for field, number in FIBS.items()}
FIB_WORDS = {  # RTN_* of rtnetlink.h
    "unspec": 0,
    "unicast": 1,
    "local": 2,
    "broadcast": 3,
    "anycast": 4,
    "multicast": 5,
    "blackhole": 6,
    "unreachable": 7,
    "prohibit": 8,
}
FIB_NAMES = {number: name for name, number in FIB_WORDS.items()}

CMP_EQ, CMP_NEQ = 0, 1
REG_VERDICT, REG_1, REG_2 = 0, 1, 2
_REG32_00 = 8


def kind(command: int) -> int:
    """nlmsg_type of a command."""
    return SUBSYSTEM << 8 | command


def head(family: int) -> bytes:
    """The nfgenmsg that a message begins with."""
    return _NFGENMSG.pack(family, 0, 0)


def batch_head() -> bytes:
    """The body of a batch's first and last message: it is for nf_tables."""
    return _NFGENMSG.pack(0, 0, SUBSYSTEM)


def register(word: int) -> int:
    """The register that begins at that word of four bytes, as nft and the kernel number it."""
    return REG_1 + word // 4 if word % 4 == 0 else _REG32_00 + word


def be32(kind: int, value: int) -> bytes:
    """A number in network byte order, as all of nf_tables has it."""
    return wire.ATTRIBUTE.pack(8, kind) + value.to_bytes(4, "big")


def type_number(types: tuple[KeyType, ...]) -> int:
    """nft's number for a type or a concatenation of them."""
    number = 0
    for one in types:
        number = number << TYPE_BITS | TYPES[one][0]
    return number


def types_of(number: int) -> tuple[KeyType, ...] | None:
    """The types that ``type_number`` made the number of; None for any that is not known here."""
    found: list[KeyType] = []
    while number:
        name = TYPE_NAMES.get(number & (1 << TYPE_BITS) - 1)
        if name is None:
            return None
        found.insert(0, name)
        number >>= TYPE_BITS
    return tuple(found)


def key_size(types: tuple[KeyType, ...]) -> int:
    """Bytes of a key: parts of a concatenation fill up to four each."""
    if len(types) == 1:
        return TYPES[types[0]][1]
    return sum(TYPES[one][1] + 3 & ~3 for one in types)


def comment(text: str) -> bytes:
    """User data that holds a comment: nft's TLV of type 0 (libnftnl's udata.h)."""
    return tlv(0, text)


SET_COMMENT = 7  # NFTNL_UDATA_SET_COMMENT


def tlv(kind: int, text: str) -> bytes:
    """A text in user data, with its final zero."""
    value = text.encode() + b"\0"
    return bytes((kind, len(value))) + value


def read_tlvs(data: bytes) -> dict[int, bytes]:
    """The parts of user data by type.  Raises WireError."""
    found = {}
    at = 0
    while at < len(data):
        if at + 2 > len(data) or at + 2 + data[at + 1] > len(data):
            raise wire.WireError("user data that ends inside of a part")
        found[data[at]] = data[at + 2 : at + 2 + data[at + 1]]
        at += 2 + data[at + 1]
    return found
