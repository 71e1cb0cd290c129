"""Who asked for an object: ``service default/web:http``, ``service default/web`` or ``proxy``.

A ServicePort asks for its virtual servers, a Service for its addresses, the proxy itself for the
frame that all of them stand in.  Namespaces, names and port names have neither / nor : in them.
"""

from __future__ import annotations

from hairpin.model.metadata import Key

PROXY = "proxy"
_SERVICE = "service "


def of_service(key: Key) -> str:
    return f"{_SERVICE}{key[0]}/{key[1]}"


def of_port(key: Key, port: str) -> str:
    """``port`` is the port's name, which a Service's only port may lack."""
    return f"{_SERVICE}{key[0]}/{key[1]}:{port}" if port else f"{_SERVICE}{key[0]}/{key[1]}"


def service_of(owner: str) -> Key:
    """The Service that asked.  Raises ValueError where none did."""
    if not owner.startswith(_SERVICE):
        raise ValueError(f"{owner} is no service")
    namespace, _, rest = owner[len(_SERVICE) :].partition("/")
    return namespace, rest.partition(":")[0]
