"""What may stand for FROM and TO of ``hairpin trace``, and for a fault of ``hairpin break``."""

from __future__ import annotations

TYPE_CHECKING = False  # typing is not imported for it: this runs with every Tab
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    Keys = Iterable[list[str]]
    Port = tuple[str, int, int]
    """Its name, number and node port, 0 for none."""

NOSPACE = ":nospace"


def sources(pods: Keys, nodes: Keys, namespace: str) -> Iterator[str]:
    """Who may send: Pods by their short names where they have them."""
    yield from _short(pods, namespace)
    yield from (f"node/{name}" for _, name in nodes)
    yield "outside\tthe client beyond the cluster"
    yield "here\tthis machine, as a node of a cluster"


def targets(
    typed: str,
    pods: Keys,
    nodes: Keys,
    services: Keys,
    namespace: str,
    ports_of: Callable[[], Iterable[tuple[str, Port]]],
) -> Iterator[str]:
    """Whom it may go to.  After a colon come ports: of a Service its own, of a node node ports.

    ``ports_of`` gives each Service's, by ``svc/NAME`` as it is said; only called where they count.
    """
    head, colon, _ = typed.partition(":")
    kind, slash, _ = head.partition("/")
    if colon and slash and kind in ("svc", "service", "services"):
        for word, (name, number, _) in ports_of():
            if word == f"svc/{head.partition('/')[2]}":
                yield f"{head}:{name or number}"
        return
    if colon and slash and kind in ("node", "nodes", "no"):
        yield from (f"{head}:{node}\t{word}" for word, (_, _, node) in ports_of() if node)
        return
    yield from (f"svc/{one}" for one in _short(services, namespace))
    yield from _short(pods, namespace)
    if typed and (typed.startswith("node/") or "node/".startswith(typed)):
        yield NOSPACE
    yield from (f"node/{name}:\tand a port" for _, name in nodes)


def service_ports(shown: Iterable[dict[str, object]], namespace: str) -> Iterator[tuple[str, Port]]:
    """Of Services as a lab shows them."""
    for one in shown:
        metadata, spec = one["metadata"], one["spec"]
        assert isinstance(metadata, dict)
        assert isinstance(spec, dict)
        key = [[str(metadata.get("namespace")), str(metadata["name"])]]
        for port in spec.get("ports") or ():
            found = port.get("name") or "", int(port["port"]), int(port.get("nodePort") or 0)
            yield f"svc/{next(_short(key, namespace))}", found


def faults() -> Iterator[str]:
    """The faults that ``hairpin break`` makes."""
    from hairpin.claims.faults import FAULTS

    return (f"{one.id}\t{one.says.en}" for one in FAULTS)


def _short(keys: Keys, namespace: str) -> Iterator[str]:
    """Names; those of another namespace with it before them."""
    for space, name in sorted(keys, key=lambda key: (key[0] != namespace, key)):
        yield name if space == namespace else f"{space}/{name}"
