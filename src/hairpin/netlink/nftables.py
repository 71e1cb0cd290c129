"""nf_tables over nfnetlink: what is asked of the kernel.  Its answers: ``nftables_seen``.

All that is changed goes in a transaction: messages between a BATCH_BEGIN and a BATCH_END, of
which the kernel does all or none (net/netfilter/nfnetlink.c, nf_tables_api.c).

Anonymous sets get names of our own: with nft's ``__map%d`` the kernel looks for a free number by
reading the name of every set of the table with sscanf.  And their elements name the set by an id,
which is looked for among the few of the transaction only (docs/nftables-speed.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from hairpin.netlink import message as wire
from hairpin.netlink import nftables_format as form
from hairpin.netlink import nftables_rules as rules
from hairpin.netlink import nftables_values as values
from hairpin.netlink.message import NLM_F_CREATE, NLM_F_DUMP, Request
from hairpin.state.nftables import (
    KeyType,
    NftChain,
    NftElement,
    NftFamily,
    NftRule,
    NftSet,
    NftTable,
    Value,
)

_NLM_F_APPEND = 0x800


def begin() -> Request:
    """The first message of a transaction."""
    return Request(form.BATCH_BEGIN, 0, form.batch_head())


def end() -> Request:
    """The last message of a transaction."""
    return Request(form.BATCH_END, 0, form.batch_head())


def add_table(table: NftTable) -> Request:
    """Makes a table; one that is there stays as it is, but for being dormant."""
    body = _head(table.family) + wire.text(form.TABLE_NAME, table.name)
    body += form.be32(form.TABLE_FLAGS, form.TABLE_DORMANT if table.dormant else 0)
    if table.comment:
        body += wire.attribute(form.TABLE_USERDATA, form.comment(table.comment))
    return Request(form.kind(form.NEWTABLE), NLM_F_CREATE, body)


def remove_table(table: NftTable) -> Request:
    """Removes a table with all that is in it.  ENOENT: there is none."""
    body = _head(table.family) + wire.text(form.TABLE_NAME, table.name)
    return Request(form.kind(form.DELTABLE), 0, body)


def add_chain(chain: NftChain) -> Request:
    """Makes a chain, without its rules; of one that is there the policy is set."""
    body = _chain_head(chain)
    if chain.hook is not None:
        body += wire.nested(
            form.CHAIN_HOOK,
            form.be32(form.HOOK_HOOKNUM, form.HOOKS[chain.hook.hook]),
            form.be32(form.HOOK_PRIORITY, chain.hook.priority & 0xFFFFFFFF),
        )
        body += form.be32(form.CHAIN_POLICY, form.POLICIES[chain.hook.policy])
        body += wire.text(form.CHAIN_TYPE, chain.hook.type)
    if chain.comment:
        body += wire.attribute(form.CHAIN_USERDATA, form.comment(chain.comment))
    return Request(form.kind(form.NEWCHAIN), NLM_F_CREATE, body)


def remove_chain(chain: NftChain) -> Request:
    """Removes a chain with its rules.  EBUSY: something leads to it; ENOENT: there is none."""
    return Request(form.kind(form.DELCHAIN), 0, _chain_head(chain))


def flush_chain(chain: NftChain) -> Request:
    """Removes all rules of a chain.  ENOENT: there is no such chain."""
    body = (
        _head(chain.family)
        + wire.text(form.RULE_TABLE, chain.table)
        + wire.text(form.RULE_CHAIN, chain.name)
    )
    return Request(form.kind(form.DELRULE), 0, body)


def add_rules(chain: NftChain, new_id: Callable[[], int], salt: int = 0) -> list[Request]:
    """Appends the rules of a chain, each after the anonymous sets that it needs.

    ``new_id`` gives a number for each of these that no other of the transaction has; another
    ``salt`` (below 256) gives them other names.  EEXIST for one of them: a set of the table has
    its name.  Raises ValueError for a rule that makes no sense.
    """
    found: list[Request] = []
    head = _rules_head(chain.family, chain.table) + wire.text(form.RULE_CHAIN, chain.name)
    for rule, (expressions, inline) in zip(chain.rules, _encoded(chain, salt), strict=True):
        for one in inline:
            found += add_inline(chain.family, chain.table, one, new_id())
        found.append(_add_rule(head, rule, expressions))
    return found


def inline_sets(chain: NftChain) -> list[rules.Inline]:
    """The anonymous sets that a chain has when it is as ``add_rules`` writes it.

    Raises ValueError for a rule that makes no sense.
    """
    return [one for _, inline in _encoded(chain, 0) for one in inline]


def _encoded(chain: NftChain, salt: int) -> Iterator[tuple[bytes, list[rules.Inline]]]:
    name = chain.name.encode() + bytes((0, salt))
    for at, rule in enumerate(chain.rules):
        yield rules.encode(rule, chain.family, name + at.to_bytes(4, "big"))


def add_set(wanted: NftSet) -> Request:
    """Makes a set or map.  EEXIST: there is one that is otherwise."""
    flags = (
        (form.FLAG_MAP if wanted.verdicts else 0)
        | (form.FLAG_INTERVAL if wanted.interval else 0)
        | (form.FLAG_DYNAMIC if wanted.dynamic else 0)
        | (form.FLAG_TIMEOUT if wanted.timeout else 0)
    )
    body = (
        _set_head(wanted.family, wanted.table, wanted.name)
        + form.be32(form.SET_FLAGS, flags)
        + form.be32(form.SET_KEY_TYPE, form.type_number(wanted.types))
        + form.be32(form.SET_KEY_LEN, form.key_size(wanted.types))
    )
    if wanted.verdicts:
        body += form.be32(form.SET_DATA_TYPE, form.TYPE_VERDICT)
        body += form.be32(form.SET_DATA_LEN, 0)
    body += form.be32(form.SET_ID, 1)  # the kernel wants one and looks at it for anonymous ones
    if wanted.size:
        body += wire.nested(form.SET_DESC, form.be32(form.SET_DESC_SIZE, wanted.size))
    if wanted.timeout:
        milliseconds = (wanted.timeout * 1000).to_bytes(8, "big")
        body += wire.attribute(form.SET_TIMEOUT, milliseconds)
    if wanted.comment:
        body += wire.attribute(form.SET_USERDATA, form.tlv(form.SET_COMMENT, wanted.comment))
    return Request(form.kind(form.NEWSET), NLM_F_CREATE, body)


def remove_set(wanted: NftSet) -> Request:
    """Removes a set with its elements.  EBUSY: a rule uses it; ENOENT: there is none."""
    body = _set_head(wanted.family, wanted.table, wanted.name)
    return Request(form.kind(form.DELSET), 0, body)


MOST_ELEMENTS = 256
"""How many elements one message may have: a nest has at most 65 535 bytes, an element 180."""


def put_elements(elements: Iterable[NftElement], *, add: bool) -> Request:
    """Adds elements to one set, or removes them: at most MOST_ELEMENTS.

    EEXIST: one is there with another verdict; ENOENT: one to remove is not there, or no such set
    or chain.  Raises ValueError for an element that is not of its set's family.
    """
    head = b""
    parts = []
    for one in elements:
        head = head or _elements_head(one.family, one.table, one.set)
        parts.append(_element(one, whole=add))
    body = head + wire.nested(form.ELEMS_ELEMENTS, *parts)
    command = form.NEWSETELEM if add else form.DELSETELEM
    return Request(form.kind(command), NLM_F_CREATE if add else 0, body)


def dump_tables(family: NftFamily) -> Request:
    """Asks for the tables of a family."""
    return Request(form.kind(form.GETTABLE), NLM_F_DUMP, _head(family))


def dump_sets(family: NftFamily, table: str) -> Request:
    """Asks for the sets of a table, anonymous ones among them, without their elements."""
    body = _head(family) + wire.text(form.SET_TABLE, table)
    return Request(form.kind(form.GETSET), NLM_F_DUMP, body)


def dump_elements(family: NftFamily, table: str, name: str) -> Request:
    """Asks for the elements of a set."""
    return Request(form.kind(form.GETSETELEM), NLM_F_DUMP, _elements_head(family, table, name))


def dump_chains(family: NftFamily) -> Request:
    """Asks for the chains of all tables of a family; the kernel knows no narrower question."""
    return Request(form.kind(form.GETCHAIN), NLM_F_DUMP, _head(family))


def dump_rules(family: NftFamily, table: str) -> Request:
    """Asks for the rules of a table, chain by chain."""
    body = _head(family) + wire.text(form.RULE_TABLE, table)
    return Request(form.kind(form.GETRULE), NLM_F_DUMP, body)


def ask_generation() -> Request:
    """Asks how many transactions the namespace has seen."""
    return Request(form.kind(form.GETGEN), 0, form.head(0))


def key_types(element: NftElement) -> tuple[KeyType, ...]:
    """The types that a set must have for an element.  Raises ValueError."""
    return tuple(_type(part) for part in element.of)


def _type(part: Value) -> KeyType:
    match part:
        case IPv4Address() | IPv4Network():
            return "ipv4_addr"
        case IPv6Address() | IPv6Network():
            return "ipv6_addr"
        case str():
            return "inet_proto" if part in form.PROTOCOLS or part.isdecimal() else "ifname"
        case int():
            return "inet_service"
        case _:
            raise ValueError(f"{part} in a key")


@lru_cache(maxsize=8)
def _head(family: NftFamily) -> bytes:
    return form.head(form.FAMILIES[family])


@lru_cache(maxsize=64)
def _set_head(family: NftFamily, table: str, name: str) -> bytes:
    return _head(family) + wire.text(form.SET_TABLE, table) + wire.text(form.SET_NAME, name)


@lru_cache(maxsize=64)
def _elements_head(family: NftFamily, table: str, name: str) -> bytes:
    return _head(family) + wire.text(form.ELEMS_TABLE, table) + wire.text(form.ELEMS_SET, name)


@lru_cache(maxsize=64)
def _rules_head(family: NftFamily, table: str) -> bytes:
    return _head(family) + wire.text(form.RULE_TABLE, table)


def _chain_head(chain: NftChain) -> bytes:
    return (
        _head(chain.family)
        + wire.text(form.CHAIN_TABLE, chain.table)
        + wire.text(form.CHAIN_NAME, chain.name)
    )


def _add_rule(head: bytes, rule: NftRule, expressions: bytes) -> Request:
    body = head + wire.nested(form.RULE_EXPRESSIONS, expressions)
    if rule.comment:
        body += wire.attribute(form.RULE_USERDATA, form.comment(rule.comment))
    return Request(form.kind(form.NEWRULE), NLM_F_CREATE | _NLM_F_APPEND, body)


def add_inline(family: NftFamily, table: str, wanted: rules.Inline, id: int) -> list[Request]:
    """Makes an anonymous set with its elements; ``id`` is its own within the transaction."""
    head = _rules_head(family, table)  # attribute 1 is the table in all of them
    number = id.to_bytes(4, "big")
    shape = _shape(
        wanted.flags,
        wanted.key_type,
        wanted.key_size,
        wanted.data_type,
        wanted.data_size,
        wanted.count,
    )
    made = head + wire.text(form.SET_NAME, wanted.name) + _SET_ID + number + shape
    return [
        Request(form.kind(form.NEWSET), NLM_F_CREATE, made),
        *(
            Request(
                form.kind(form.NEWSETELEM),
                NLM_F_CREATE,
                head + wire.nested(form.ELEMS_ELEMENTS, block) + _ELEMS_SET_ID + number,
            )
            for block in wanted.elements
        ),
    ]


_SET_ID = wire.ATTRIBUTE.pack(8, form.SET_ID)
_ELEMS_SET_ID = wire.ATTRIBUTE.pack(8, form.ELEMS_SET_ID)


@lru_cache(maxsize=256)
def _shape(
    flags: int, key_type: int, key_size: int, data_type: int, data_size: int, count: int
) -> bytes:
    """What an anonymous set is, after its name."""
    body = (
        form.be32(form.SET_FLAGS, flags)
        + form.be32(form.SET_KEY_TYPE, key_type)
        + form.be32(form.SET_KEY_LEN, key_size)
    )
    if flags & form.FLAG_MAP:
        body += form.be32(form.SET_DATA_TYPE, data_type)
        body += form.be32(form.SET_DATA_LEN, data_size)
    body += wire.nested(form.SET_DESC, form.be32(form.SET_DESC_SIZE, count))
    if key_type == form.TYPE_INTEGER:  # else nft would print 0, 16777216, 33554432 …
        body += wire.attribute(form.SET_USERDATA, _HOST_ORDER)
    return body


# NFTNL_UDATA_SET_KEYBYTEORDER: BYTEORDER_HOST_ENDIAN of nftables' include/datatype.h
_HOST_ORDER = bytes((0, 4)) + (1).to_bytes(4, "little")


def _element(wanted: NftElement, *, whole: bool) -> bytes:
    types = key_types(wanted)
    verdict = values.verdict(wanted.verdict) if whole and wanted.verdict is not None else b""
    comment = wanted.comment if whole else ""
    if len(types) == 1 and values.is_network(wanted.of[0]):
        first, after = values.bound(wanted.of[0])
        made = values.element(first, verdict, comment=comment)
        if after is not None:
            made += values.element(after, flags=form.INTERVAL_END)
        return made
    return values.element(values.pack_key(types, wanted.of), verdict, comment=comment)
