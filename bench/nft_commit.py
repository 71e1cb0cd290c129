"""What one commit to nf_tables costs, by what is in it: which changes does the kernel validate for?

In a network namespace of the host to throw away, a table with so many Services as ``nft_door.py``
makes them, kube-proxy's structure: a chain, a rule, an anonymous map and two elements for each.
Then transactions of one kind of message each, among them all that the change of one Service's
endpoints needs.  ``--base-chains`` is how many base chains lead to the Services: kube-proxy has two
(prerouting and output), and the kernel's validation begins at each.  Last, the same with a map of
data that all Services share, which is not validated: its elements are addresses, no verdicts.

    sudo .venv/bin/python bench/nft_commit.py [--services 100 1000 10000] [--base-chains 2]

Needs root.  Microseconds of CPU of this process, in which the kernel's work is done; medians.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from itertools import count

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120

from nft_door import TABLE, TCP, address, chain, frame, in_a_map, must, service

from hairpin.kernel.apply import Kernel
from hairpin.kernel.netlink_socket import NetlinkSocket
from hairpin.kernel.netns import Netns
from hairpin.netlink import message, nftables_values
from hairpin.netlink import nftables as wire
from hairpin.netlink import nftables_format as form
from hairpin.netlink.message import NLM_F_CREATE, Request
from hairpin.state.change import Change
from hairpin.state.nftables import (
    Counter,
    Dnat,
    InSet,
    Match,
    NftChain,
    NftElement,
    NftRule,
    RandomDnat,
    SetMark,
    Statement,
    Target,
    Verdict,
)

_NETLINK_NETFILTER = 12
_NODE = "bench"
_DATA = "endpoints"  # the map of data
_ENDPOINTS = 4
Make = Callable[[int], list[Request]]


class Table:
    """A namespace with a table of so many Services."""

    def __init__(self, services: int, base_chains: int, *, data: bool = False) -> None:
        self.services = services
        self._kernel = Kernel()
        handle = Netns.create(_NODE)
        self._kernel.adopt(handle)
        self._socket = NetlinkSocket(_NETLINK_NETFILTER, handle)
        objects = frame()
        hooked = [one for one in objects if isinstance(one, NftChain) and one.hook is not None]
        left_out = hooked[base_chains:]
        objects = [one for one in objects if one not in left_out]
        if not data:
            objects += [one for number in range(services) for one in service(number, in_a_map)]
        objects += [_chain("target"), _chain("alone")]
        must(self._kernel, [Change(verb="add", netns=_NODE, object=one) for one in objects])
        self.transact([_data_map()])

    def transact(self, requests: list[Request]) -> None:
        refused, whole = self._socket.transaction(requests, wire.begin(), wire.end())
        assert not refused, refused
        assert whole is None, whole

    def close(self) -> None:
        self._socket.close()
        self._kernel.close(destroy=True)


def _chain(name: str, *statements: Statement) -> NftChain:
    rules = (NftRule(statements),) if statements else ()
    return NftChain(family="ip", table=TABLE, name=name, rules=rules)


def _data_map() -> Request:
    """``type ipv4_addr . inet_service : ipv4_addr . inet_service``, which ``state`` has not."""
    body = wire._set_head("ip", TABLE, _DATA)
    body += form.be32(form.SET_FLAGS, form.FLAG_MAP)
    types = form.type_number(("ipv4_addr", "inet_service"))
    body += form.be32(form.SET_KEY_TYPE, types) + form.be32(form.SET_KEY_LEN, 8)
    body += form.be32(form.SET_DATA_TYPE, types) + form.be32(form.SET_DATA_LEN, 8)
    return Request(form.kind(form.NEWSET), NLM_F_CREATE, body + form.be32(form.SET_ID, 1))


def _data(numbers: range, port: int = 8080, *, add: bool = True) -> Request:
    """Elements of the map of data: the endpoint of each number."""
    rows = []
    for number in numbers:
        key = nftables_values.data(number.to_bytes(4, "big") + bytes(4))
        value = (0x0AC0_0000 + number).to_bytes(4, "big") + port.to_bytes(2, "big") + bytes(2)
        parts = [message.nested(form.ELEM_KEY, key)]
        if add:
            parts.append(message.nested(form.ELEM_DATA, nftables_values.data(value)))
        rows.append(message.nested(form.LIST_ELEM, *parts))
    body = wire._elements_head("ip", TABLE, _DATA) + message.nested(form.ELEMS_ELEMENTS, *rows)
    kind = form.kind(form.NEWSETELEM if add else form.DELSETELEM)
    return Request(kind, NLM_F_CREATE if add else 0, body)


def _element(name: str, number: int, verdict: Verdict | None = None, *, add: bool) -> list[Request]:
    ip = address(0x0C00_0000 + number)
    of = (ip,) if name == "cluster-ips" else (ip, "TCP", 80)
    one = NftElement(family="ip", table=TABLE, set=name, of=of, verdict=verdict)
    return [wire.put_elements([one], add=add)]


def _kinds(services: int) -> Iterator[tuple[str, Make]]:
    new_id = count(1).__next__
    goto, own = Verdict("goto", "target"), chain(services // 2, in_a_map)
    flush, alone = wire.flush_chain, _chain("alone")

    def rule(*statements: Statement) -> Make:
        return lambda turn: wire.add_rules(_chain("alone", *statements), new_id)

    def ends(turn: int) -> tuple[Statement, ...]:
        targets = (Target(address(0x0B00_0000 + _ENDPOINTS * turn + at), 80) for at in range(4))
        return TCP, RandomDnat(targets=tuple(targets))

    def endpoints(turn: int) -> list[Request]:
        anew = wire.add_rules(chain(services // 2, in_a_map, 9000 + turn), new_id)
        return [wire.add_chain(own), flush(own), *anew]

    yield "element of a set, added", lambda n: _element("cluster-ips", n, add=True)
    yield "  removed", lambda n: _element("cluster-ips", n, add=False)
    yield "element of a map of data, added", lambda n: [_data(range(n, n + 1))]
    yield "  removed", lambda n: [_data(range(n, n + 1), add=False)]
    yield "element of a verdict map, goto", lambda n: _element("service-ips", n, goto, add=True)
    yield "  removed", lambda n: _element("service-ips", n, goto, add=False)
    drop = Verdict("drop")
    yield "element of a verdict map, drop", lambda n: _element("service-ips", n, drop, add=True)
    yield "chain", lambda n: [wire.add_chain(_chain(f"new-{n}"))]
    yield "  removed", lambda n: [wire.remove_chain(_chain(f"new-{n}"))]
    yield "rule: counter", rule(Counter())
    yield "rule: ip daddr 10.0.0.1", rule(Match(field="ip daddr", value=address(0x0A00_0001)))
    yield "rule: accept", rule(Verdict("accept"))
    yield "rule: jump", rule(Verdict("jump", "target"))
    yield "rule: meta l4proto tcp", rule(TCP)
    yield "rule: meta mark set", rule(SetMark(operator="|", bits=0x4000))
    yield "rule: ip daddr @cluster-ips", rule(InSet(fields=("ip daddr",), set="cluster-ips"))
    yield "rule: dnat to 10.0.0.1:80", rule(TCP, Dnat(ip=address(0x0A00_0001), port=80))
    yield (
        "rule: dnat to numgen random map",
        lambda n: wire.add_rules(_chain("alone", *ends(n)), new_id),
    )
    yield "all rules of a chain, removed", lambda n: [flush(alone)]
    yield "a Service's endpoints", endpoints


def _measure(table: Table, make: Make, trials: int) -> float:
    times = []
    for turn in range(trials):
        requests = make(turn)
        began = time.process_time()
        table.transact(requests)
        times.append(time.process_time() - began)
    return statistics.median(times) * 1e6


def _with_data(services: int, base_chains: int, trials: int) -> Iterator[tuple[str, float]]:
    """No chains of Services: their endpoints are elements of one map."""
    table = Table(services, base_chains, data=True)
    step = wire.MOST_ELEMENTS
    every = services * _ENDPOINTS
    spans = [range(at, min(at + step, every)) for at in range(0, every, step)]
    began = time.process_time()
    table.transact([_data(span) for span in spans])
    yield "map of data: from empty", (time.process_time() - began) * 1e6

    def other(turn: int) -> list[Request]:
        one = range(every // 2, every // 2 + 1)
        return [_data(one, add=False), _data(one, 9000 + turn)]

    yield "map of data: one endpoint is another", _measure(table, other, trials)
    table.close()


def _all(services: int, base_chains: int, trials: int) -> dict[int, tuple[str, float]]:
    table = Table(services, base_chains)
    rows = [(name, _measure(table, make, trials)) for name, make in _kinds(services)]
    table.close()
    rows += _with_data(services, base_chains, trials)
    return dict(enumerate(rows))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--services", type=int, nargs="+", default=[100, 1000, 10000])
    parser.add_argument("--base-chains", type=int, default=2, choices=(0, 1, 2))
    parser.add_argument("--trials", type=int, default=21)
    arguments = parser.parse_args()
    if os.geteuid():
        parser.error("needs root, for a network namespace")
    found = [_all(one, arguments.base_chains, arguments.trials) for one in arguments.services]
    print(f"{'us of CPU':40}" + "".join(f"{one:>10}" for one in arguments.services))
    for at, (name, _) in found[0].items():
        print(f"{name:40}" + "".join(f"{one[at][1]:10.0f}" for one in found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
