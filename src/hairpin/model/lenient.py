"""Objects as an API server hands them over, one bad thing costing only itself.

A person who wrote a mistake is told and nothing is done (``model.decode``).  A cluster holds what
it holds: what of it can be read is served, as kube-proxy does, and the rest is named.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from hairpin.model.address import sloppy_from_builtin
from hairpin.model.decode import KINDS, decoding, known_kind, plain_of
from hairpin.model.endpointslice import EndpointPort, EndpointSlice, SliceEndpoint
from hairpin.model.errors import ManifestError
from hairpin.model.service import Service
from hairpin.model.snapshot import Object

_PARTS: Mapping[str, type[msgspec.Struct]] = {"endpoints": SliceEndpoint, "ports": EndpointPort}


def decode_lenient(
    raws: Iterable[object], wheres: Iterable[str] = ()
) -> tuple[list[Object], list[ManifestError]]:
    """What can be read of objects in the API's JSON shape, and what is wrong with the rest.

    A bad object is left out; of an EndpointSlice only the endpoint or port that is bad.
    Unknown fields pass, and addresses are read as sloppily as kube-proxy does.  ``wheres`` are
    the objects' files, for the problems.  Raises nothing.
    """
    objects: list[Object] = []
    problems: list[ManifestError] = []
    places = iter(wheres)
    for raw in raws:
        where = next(places, "")
        try:
            if not known_kind(raw, where):
                message = "hairpin has no use for this kind"
                raise ManifestError(message, where=where, field="kind")
            assert isinstance(raw, Mapping)
            thing = _decoded(raw, where, problems)
        except ManifestError as error:
            problems.append(error)
        else:
            objects.append(thing)
    return objects, problems


def _decoded(raw: Mapping[str, Any], where: str, problems: list[ManifestError]) -> Object:
    """Raises ManifestError."""
    plain = plain_of(raw, where)
    kind = KINDS[raw["kind"]][1]
    positions: list[int] = []
    try:
        thing: Object = msgspec.convert(plain, kind, dec_hook=sloppy_from_builtin)
    except (msgspec.ValidationError, RecursionError):
        if kind is EndpointSlice:
            plain, positions = _without_bad_parts(plain, raw, where, problems)
        with decoding(raw, plain, where):
            thing = msgspec.convert(plain, kind, dec_hook=sloppy_from_builtin)
    if isinstance(thing, EndpointSlice):
        return _of_one_family(thing, positions, where, problems)
    if isinstance(thing, Service):
        _check_ports(thing, where)
    return thing


def _without_bad_parts(
    plain: dict[str, Any], raw: Mapping[str, Any], where: str, problems: list[ManifestError]
) -> tuple[dict[str, Any], list[int]]:
    """An EndpointSlice without those endpoints and ports that cannot be read; which are left.

    Raises ManifestError where the rest cannot be read either.
    """
    kept = {**plain, "endpoints": [], "ports": []}
    with decoding(raw, kept, where):
        msgspec.convert(kept, EndpointSlice, dec_hook=sloppy_from_builtin)
    positions: list[int] = []
    for field, kind in _PARTS.items():
        parts = plain.get(field, [])
        if not isinstance(parts, list):
            kept[field] = parts  # decoding will complain
            continue
        for index, part in enumerate(parts):
            try:
                with decoding(raw, part, where, f"{field}[{index}]"):
                    msgspec.convert(part, kind, dec_hook=sloppy_from_builtin)
            except ManifestError as error:
                problems.append(error)
            else:
                kept[field].append(part)
                if field == "endpoints":
                    positions.append(index)
    return kept, positions


def _of_one_family(
    thing: EndpointSlice, positions: list[int], where: str, problems: list[ManifestError]
) -> EndpointSlice:
    """Without endpoints whose first address, the one that counts, is of another family."""
    kept = []
    for index, endpoint in enumerate(thing.endpoints):
        ip = endpoint.addresses[0] if endpoint.addresses else None
        if ip is not None and f"IPv{ip.version}" == thing.address_type:
            kept.append(endpoint)
            continue
        message = "is missing" if ip is None else f"{ip} is not {thing.address_type}"
        field = f"endpoints[{positions[index] if positions else index}].addresses"
        problems.append(ManifestError(message, where=where, object=str(thing.ref), field=field))
    if len(kept) == len(thing.endpoints):
        return thing
    return msgspec.structs.replace(thing, endpoints=tuple(kept))


def _check_ports(service: Service, where: str) -> None:
    """Raises ManifestError for a Service that must have ports and has none."""
    spec = service.spec
    if not spec.ports and spec.type != "ExternalName" and not service.headless:
        raise ManifestError("is missing", where=where, object=str(service.ref), field="spec.ports")
