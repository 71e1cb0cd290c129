"""What the API server sends, as values: pages of lists, events of watches, errors.

The fast way is to decode a whole list at once, straight to the model.  One object in it that
cannot be read sends the page the slow way, object by object, where it costs only itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

import msgspec

from hairpin.model.address import sloppy_from_builtin
from hairpin.model.endpointslice import EndpointSlice
from hairpin.model.garbage import uncollected
from hairpin.model.lenient import decode_lenient
from hairpin.model.metadata import Key
from hairpin.model.node import Node
from hairpin.model.service import Service
from hairpin.model.servicecidr import ServiceCIDR

KubeThing = Service | EndpointSlice | Node | ServiceCIDR
Verb = Literal["put", "gone", "bookmark", "error", "other"]

SERVICES, SLICES, NODES, CIDRS = "Service", "EndpointSlice", "Node", "ServiceCIDR"
_MOST_ADDRESSES = 1 << 10  # texts remembered; some 200 bytes each
_T = TypeVar("_T")


class Resource(msgspec.Struct, frozen=True):
    """One kind to follow: where it is, which objects of it, and what they become.

    ``selectors`` are the query's labelSelector and fieldSelector.  ``optional`` is a kind that the
    server need not have; it has no such objects then.
    """

    kind: str
    api_version: str
    path: str
    selectors: Mapping[str, str]
    model: type[KubeThing]
    optional: bool = False


def resources(node: str, *, cidrs: bool = False) -> tuple[Resource, ...]:
    """What kube-proxy 1.36 asks for on the node of that name, as its requests show.

    ``cidrs``: ServiceCIDRs too, as in nftables mode.
    """
    found = (
        Resource(
            SERVICES,
            "v1",
            "/api/v1/services",
            {
                "fieldSelector": "spec.clusterIP!=None",
                "labelSelector": "!service.kubernetes.io/service-proxy-name",
            },
            Service,
        ),
        Resource(
            SLICES,
            "discovery.k8s.io/v1",
            "/apis/discovery.k8s.io/v1/endpointslices",
            {"labelSelector": "!service.kubernetes.io/headless"},
            EndpointSlice,
        ),
        Resource(
            NODES,
            "v1",
            "/api/v1/nodes",
            {"fieldSelector": f"metadata.name={node}"},
            Node,
        ),
    )
    return (*found, SERVICE_CIDRS) if cidrs else found


SERVICE_CIDRS = Resource(
    CIDRS,
    "networking.k8s.io/v1",
    "/apis/networking.k8s.io/v1/servicecidrs",
    {},
    ServiceCIDR,
    optional=True,  # since 1.33
)


class Item(msgspec.Struct, frozen=True):
    """One object; ``thing`` None is one that cannot be read.  ``version`` is 0 where unknown."""

    key: Key
    version: int
    thing: KubeThing | None


class Page(msgspec.Struct, frozen=True):
    """A part of a list, or all of it; ``more`` is the token for the next part."""

    items: list[Item]
    version: str
    more: str = ""
    problems: tuple[str, ...] = ()


class Event(msgspec.Struct, frozen=True):
    """One line of a watch.  ``code`` and ``text`` are an error's."""

    verb: Verb
    version: str = ""
    item: Item | None = None
    initial_end: bool = False
    code: int = 0
    text: str = ""
    problems: tuple[str, ...] = ()


class _Meta(msgspec.Struct, frozen=True, rename="camel"):
    name: str = ""
    namespace: str = ""
    resource_version: str = ""
    annotations: dict[str, str] | None = None


class _Head(msgspec.Struct):
    """What is needed of an object that cannot be read, or that is gone, or of an error."""

    metadata: _Meta = _Meta()
    code: int = 0
    message: str | None = ""
    reason: str | None = ""


class _Line(msgspec.Struct):
    type: str
    object: msgspec.Raw


class _ListMeta(
    msgspec.Struct, frozen=True, rename={"resource_version": "resourceVersion", "more": "continue"}
):
    resource_version: str = ""
    more: str = ""


class _RawList(msgspec.Struct):
    metadata: _ListMeta = _ListMeta()
    items: list[msgspec.Raw] | None = None


class _Services(msgspec.Struct):
    metadata: _ListMeta = _ListMeta()
    items: list[Service] | None = None


class _Slices(msgspec.Struct):
    metadata: _ListMeta = _ListMeta()
    items: list[EndpointSlice] | None = None


class _Nodes(msgspec.Struct):
    metadata: _ListMeta = _ListMeta()
    items: list[Node] | None = None


class _Cidrs(msgspec.Struct):
    metadata: _ListMeta = _ListMeta()
    items: list[ServiceCIDR] | None = None


_lines = msgspec.json.Decoder(_Line)
_heads = msgspec.json.Decoder(_Head)
_raw_lists = msgspec.json.Decoder(_RawList)
_END = "k8s.io/initial-events-end"


class Decoding:
    """Decodes the answers about one resource.  Used by one thread."""

    def __init__(self, resource: Resource) -> None:
        self.resource = resource
        self._known: dict[str, Any] = {}
        lists = {SERVICES: _Services, SLICES: _Slices, NODES: _Nodes, CIDRS: _Cidrs}
        self._lists: msgspec.json.Decoder[Any] = msgspec.json.Decoder(
            lists[resource.kind], dec_hook=self._address
        )
        self._things: msgspec.json.Decoder[KubeThing] = msgspec.json.Decoder(
            resource.model, dec_hook=self._address
        )

    def page(self, data: bytes) -> Page:
        """A list's answer.  Raises msgspec.DecodeError for what is no list of Kubernetes."""
        with uncollected():
            try:
                found = self._lists.decode(data)
            except msgspec.ValidationError:
                return self._slowly(data)
            things = found.items or []
            if self.resource.kind == SLICES and not all(map(_is_plain, things)):
                return self._slowly(data)
            items = [Item(one.key, number(one.metadata.resource_version), one) for one in things]
        return Page(items, found.metadata.resource_version, found.metadata.more)

    def event(self, line: bytes) -> Event:
        """One line of a watch.  Raises msgspec.DecodeError for what is no event."""
        read = _lines.decode(line)
        if read.type in ("ADDED", "MODIFIED"):
            item, problems = self._item(read.object)
            version = str(item.version) if item.version else _head(read.object)[1]
            return Event("put", version, item, problems=problems)
        key, version = _head(read.object)
        if read.type == "DELETED":
            return Event("gone", version, Item(key, number(version), None))
        if read.type == "BOOKMARK":
            meta = _heads.decode(read.object).metadata
            ended = (meta.annotations or {}).get(_END) == "true"
            return Event("bookmark", version, initial_end=ended)
        if read.type == "ERROR":
            code, text = error_of(bytes(read.object))
            return Event("error", code=code, text=text)
        return Event("other", text=read.type)

    def _item(self, raw: msgspec.Raw) -> tuple[Item, tuple[str, ...]]:
        try:
            thing = self._things.decode(raw)
        except msgspec.ValidationError:
            thing = None
        if thing is not None and (not isinstance(thing, EndpointSlice) or _is_plain(thing)):
            return Item(thing.key, number(thing.metadata.resource_version), thing), ()
        key, version = _head(raw)
        # Of a list, items carry no kind.
        given = {"kind": self.resource.kind, "apiVersion": self.resource.api_version}
        things, wrong = decode_lenient([{**json.loads(bytes(raw)), **given}])
        kept = things[0] if things else None
        assert kept is None or isinstance(kept, self.resource.model)
        return Item(key, number(version), kept), tuple(one.headline for one in wrong)

    def _slowly(self, data: bytes) -> Page:
        found = _raw_lists.decode(data)
        items: list[Item] = []
        problems: list[str] = []
        for raw in found.items or ():
            item, wrong = self._item(raw)
            items.append(item)
            problems += wrong
        return Page(items, found.metadata.resource_version, found.metadata.more, tuple(problems))

    def _address(self, kind: Any, value: Any) -> Any:
        """The same address comes many times, most of them soon: twice in its Service, in the next
        event of its slice.  That each is one object is ``from_packed``'s work."""
        try:
            found = self._known.get(value)
        except TypeError:
            found = None
        if found is None:
            found = sloppy_from_builtin(kind, value)
            if found.__class__.__name__.endswith("Address"):
                if len(self._known) >= _MOST_ADDRESSES:
                    self._known.clear()
                self._known[value] = found
        return found


def error_of(data: bytes) -> tuple[int, str]:
    """The code and the words of a Status, or of whatever a server answered instead of one."""
    try:
        head = _heads.decode(data)
    except msgspec.DecodeError:
        return 0, data[:200].decode("utf-8", "replace").strip()
    return head.code, head.message or head.reason or ""


def _head(raw: msgspec.Raw) -> tuple[Key, str]:
    meta = _heads.decode(raw).metadata
    return (meta.namespace, meta.name), meta.resource_version


def number(version: str | int) -> int:
    """Versions are whole numbers that grow (KEP-5504); 0 for one that is not."""
    text = str(version)
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else 0


def _is_plain(one: EndpointSlice) -> bool:
    """Whether each endpoint's first address, the one that counts, is of the slice's family."""
    version = 4 if one.address_type == "IPv4" else 6
    return all(end.addresses and end.addresses[0].version == version for end in one.endpoints)
