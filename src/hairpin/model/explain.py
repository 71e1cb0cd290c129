"""msgspec's complaints in people's words.  Imported only when something is wrong."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Any, get_args

from hairpin.model.endpointslice import AddressType
from hairpin.model.metadata import Protocol
from hairpin.model.names import quoted
from hairpin.model.node import TaintEffect
from hairpin.model.pod import RestartPolicy
from hairpin.model.service import (
    IPFamily,
    IPFamilyPolicy,
    IPMode,
    ServiceType,
    SessionAffinity,
    TrafficDistribution,
    TrafficPolicy,
)

_CHOICES: dict[str, tuple[str, ...]] = {
    "addressType": get_args(AddressType),
    "effect": get_args(TaintEffect),
    "externalTrafficPolicy": get_args(TrafficPolicy),
    "internalTrafficPolicy": get_args(TrafficPolicy),
    "ipFamilies": get_args(IPFamily),
    "ipFamilyPolicy": get_args(IPFamilyPolicy),
    "ipMode": get_args(IPMode),
    "protocol": get_args(Protocol),
    "restartPolicy": get_args(RestartPolicy),
    "scheme": ("HTTP", "HTTPS"),
    "sessionAffinity": get_args(SessionAffinity),
    "trafficDistribution": get_args(TrafficDistribution),
    "type": get_args(ServiceType),
}
_PORTS = {"port", "targetPort", "nodePort", "containerPort", "healthCheckNodePort"}
_WORDS = {
    "array": "a list",
    "bool": "true or false",
    "float": "a number",
    "int": "a whole number",
    "object": "a mapping",
    "str": "text",
}


def explain(complaint: str, raw: Any) -> tuple[str, str, str]:
    """The field, what is wrong with it, and a remedy or "".

    ``complaint`` is the text of a msgspec.ValidationError, ``raw`` the value that it is about.
    """
    problem, _, place = complaint.partition(" - at `")
    path = place.removeprefix("key` in `").rstrip("`").removeprefix("$")
    got = re.search(r"got `(\w+)`", problem)
    field, value = _find(path, raw, got[1] if got else "")
    name = re.split(r"[.\[]", path.rstrip("]0123456789["))[-1]
    if missing := re.fullmatch(r"Object missing required field `(.*)`", problem):
        return f"{field}.{missing[1]}".lstrip("."), "is missing", ""
    if problem.startswith("Invalid enum value"):
        return field, *_choice(name, value)
    if expected := re.fullmatch(r"Expected `int` ([<>]=) (-?\d+)", problem):
        if name in _PORTS:
            return field, f"{_number(value)} is not a port (1 to 65535)", ""
        side = "less" if expected[1] == ">=" else "more"
        return field, f"{_number(value)} is {side} than {expected[2]}", ""
    if expected := re.match(r"Expected `([a-z |]+)`", problem):
        return field, *_wrong_type(expected[1], value)
    return field, *_address("network" in problem or "host bits" in problem, value)


def words(value: Any) -> str:
    """A value as a sentence names it."""
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case int() | float():
            return f"the number {_number(value)}"
        case str():
            return f"the text {quoted(value)}"
        case Mapping():
            return "a mapping"
        case _:
            return "a list"


def _find(path: str, raw: Any, got: str) -> tuple[str, Any]:
    """The path as Kubernetes writes it, and the value there.

    msgspec says ``[...]`` for a value of a mapping without saying which: the first of the kind
    that it ``got`` is meant.
    """
    field = ""
    for token in re.findall(r"\.[^.\[]+|\[\.\.\.\]|\[\d+\]", path):
        if token == "[...]":
            known = list(raw.items())
            key, raw = next((one for one in known if _kind(one[1]) == got), known[0])
            field += f"[{key}]"
            continue
        raw = raw[int(token[1:-1])] if token.startswith("[") else raw.get(token[1:])
        field += token
    return field.lstrip("."), raw


def _kind(value: Any) -> str:
    """As msgspec calls it."""
    match value:
        case None:
            return "null"
        case Mapping():
            return "object"
        case list():
            return "array"
        case _:
            return type(value).__name__


def _number(value: int | float) -> str:
    """A number in few digits; Python refuses to print integers of more than 4300."""
    if isinstance(value, int) and value.bit_length() > 64:
        return "a number of more than 64 bits"
    return str(value)


def _choice(name: str, value: Any) -> tuple[str, str]:
    choices = _CHOICES.get(name, ())
    listed = " or ".join([", ".join(choices[:-1]), choices[-1]]) if choices else "a known value"
    near = next((c for c in choices if c.lower() == str(value).lower()), "")
    return f"{quoted(str(value))} is not {listed}", f"write {near}" if near else ""


def _wrong_type(expected: str, value: Any) -> tuple[str, str]:
    kinds = [kind for kind in expected.split(" | ") if kind != "null"]
    message = " or ".join(_WORDS.get(kind, kind) for kind in kinds)
    remedy = ""
    if kinds == ["str"] and isinstance(value, bool):
        remedy = "quote it: YAML takes a plain yes, no, on, off, true or false for a truth value"
    elif kinds == ["str"] and isinstance(value, int | float):
        remedy = f'quote it: "{_number(value)}"'
    elif kinds == ["int"] and isinstance(value, str) and value.isdecimal() and len(value) < 20:
        remedy = f"write it without quotes: {value}"
    return f"expected {message}, got {words(value)}", remedy


def _address(is_network: bool, value: Any) -> tuple[str, str]:
    """What is wrong with an address, which ``model.address`` could not read."""
    if not isinstance(value, str):
        return f"expected an IP {'network' if is_network else 'address'}, got {words(value)}", ""
    if not is_network:
        return f"{quoted(value)} is not an IP address", ""
    try:
        loose = ipaddress.ip_network(value, strict=False)
    except ValueError:
        return f"{quoted(value)} is not an IP network like 10.244.0.0/24", ""
    if "/" not in value or not value.rpartition("/")[2].isdecimal():
        return f"{quoted(value)} has no prefix length", f"write {loose}"
    return f"{quoted(value)} has bits set after its prefix", f"write {loose}"
