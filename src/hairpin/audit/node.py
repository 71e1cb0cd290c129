"""What of a node's own settings Service traffic needs: notes, which are nobody's fault.

Sources: Documentation/networking/ip-sysctl.rst of Linux; the claims in ``claims/seed`` show each.
"""

from __future__ import annotations

from collections.abc import Iterator

from hairpin.audit.case import Case, many
from hairpin.audit.report import Note

_CALL = "net.bridge.bridge-nf-call-"


def notes(case: Case) -> Iterator[Note]:
    if case.held.knows("settings"):
        yield from _forwarding(case)
        yield from _reverse_path(case)
        yield from _bridged(case)
    yield from _hairpin(case)
    yield from _policies(case)


def _versions(case: Case) -> set[int]:
    """IP versions that Services have."""
    return case.owners.versions()


def _forwarding(case: Case) -> Iterator[Note]:
    settings = case.held.settings
    for name, version in (("net.ipv4.ip_forward", 4), ("net.ipv6.conf.all.forwarding", 6)):
        if settings.get(name, "1") == "0" and version in _versions(case):
            yield Note(
                subject=name,
                seen="0",
                consequence=f"The node forwards no IPv{version} packets of others: Pods reach no "
                "endpoint on another node, and clients outside reach no Pod through this one.",
                mend=(f"sysctl -w {name}=1",),
            )


def _reverse_path(case: Case) -> Iterator[Note]:
    """The stricter of "all" and the link's counts; 1 is strict, 2 loose."""
    settings = case.held.settings
    prefix, suffix = "net.ipv4.conf.", ".rp_filter"
    values = {
        name[len(prefix) : -len(suffix)]: value
        for name, value in settings.items()
        if name.startswith(prefix) and name.endswith(suffix)
    }
    every = values.pop("all", "0")
    strict = sorted(
        link
        for link, value in values.items()
        if link not in ("default", "lo", "kube-ipvs0") and max(every, value) == "1"
    )
    if strict:
        shown = ", ".join(strict[:4]) + (f" and {len(strict) - 4} more" if strict[4:] else "")
        yield Note(
            subject="rp_filter",
            seen=f"1 (strict) on {shown}",
            consequence="Packets that come by another link than the way back would take are "
            "dropped, unseen: answers of endpoints on nodes with several links, and node ports "
            "behind a second one.",
            mend=tuple(f"sysctl -w {prefix}{link}{suffix}=2" for link in strict[:4]),
        )


def _bridged(case: Case) -> Iterator[Note]:
    settings, versions = case.held.settings, _versions(case)
    for name, version in ((f"{_CALL}iptables", 4), (f"{_CALL}ip6tables", 6)):
        if version in versions and settings.get(name) == "0":
            yield Note(
                subject=name,
                seen="0",
                consequence="Where Pods of this node share a bridge, the answer of an endpoint to "
                "a Pod beside it goes there directly and is not rewritten back: the Pod refuses "
                "it.",
                mend=(f"sysctl -w {name}=1",),
            )
    bridges = {one.name for one in case.held.links if one.type == "bridge"} | {
        port.bridge for port in case.held.ports
    }
    if bridges and f"{_CALL}iptables" not in settings:
        yield Note(
            subject=f"{_CALL}iptables",
            seen="none: br_netfilter is not loaded",
            consequence=f"Between Pods that share a bridge ({', '.join(sorted(bridges))}) the "
            "answers of endpoints are not rewritten back, and the Pods refuse them.",
            mend=("modprobe br_netfilter",),
        )


def _hairpin(case: Case) -> Iterator[Note]:
    if case.held.settings.get(f"{_CALL}iptables", "1") == "0":
        return  # what the node sends is no frame that returns: the bridge need not send it back
    without: dict[str, list[str]] = {}
    for port in case.held.ports:
        if not port.hairpin and port.bridge not in case.held.promiscuous:
            without.setdefault(port.bridge, []).append(port.name)
    for bridge, ports in sorted(without.items()):
        shown = ", ".join(sorted(ports)[:4])
        yield Note(
            subject=f"hairpin mode of {bridge}",
            seen=f"off on {many(len(ports), 'port')} ({shown}{', …' if ports[4:] else ''})",
            consequence="A Pod behind such a port that reaches itself through its Service gets no "
            "answer: the bridge does not send a frame back by the port that it came in on.",
            mend=(
                f"ip link set {bridge} promisc on",
                f"# or: bridge link set dev {sorted(ports)[0]} hairpin on",
            ),
        )


def _policies(case: Case) -> Iterator[Note]:
    for family, printed in case.held.tables.items():
        if printed.policies.get(("filter", "FORWARD")) == "DROP":
            program = printed.program or ("iptables" if family == "ip" else "ip6tables")
            yield Note(
                subject=f"{program}: policy of FORWARD",
                seen="DROP",
                consequence="Packets between Pods and other nodes pass only where a rule lets "
                "them; those of Services do by KUBE-FORWARD alone, if at all.",
                mend=(f"{program} -P FORWARD ACCEPT",),
            )
