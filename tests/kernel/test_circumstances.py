"""Routes, rules, neighbours, bridges and queues of the host's kernel, as ``ip`` made them."""

from __future__ import annotations

import pytest

from hairpin.kernel import circumstances
from hairpin.model.address import ip, network
from hairpin.netlink import circumstances as wire
from hairpin.netlink.message import WireError
from hairpin.state.circumstances import Acquainted, Circumstances, Learned, Path, Policy
from tests.kernel.host import Host

_MADE = """
ip link add br0 type bridge; ip link set br0 up
ip link add a0 type veth peer name a1; ip link add b0 type veth peer name b1
for i in a0 a1 b0 b1; do ip link set $i up; done
ip link set a0 master br0; ip link set b0 master br0
ip addr add 10.1.0.1/24 dev br0; ip -6 addr add fd01::1/64 dev br0 nodad
ip route add blackhole 10.2.0.0/16; ip route add prohibit 10.3.0.0/16 table 77
ip -6 route add unreachable fd02::/64; ip route add 10.4.0.0/16 via 10.1.0.9 metric 50
ip rule add from 10.1.0.7 lookup 77 priority 100; ip rule add fwmark 0x7/0xff prohibit priority 101
ip -6 rule add not to fd03::/64 iif br0 lookup 78 priority 102
ip rule add ipproto tcp lookup 79 priority 103
ip neigh add 10.1.0.9 lladdr 02:00:00:00:00:09 dev br0 nud permanent
bridge link set dev a0 isolated on learning off; bridge link set dev b0 state 0 flood off
bridge fdb add 02:00:00:00:00:0a dev b0 master static
ip link set a1 arp off; tc qdisc add dev a1 root tbf rate 8bit burst 20 limit 20
sysctl -qw net.ipv4.conf.a0.forwarding=1 net.ipv6.conf.b0.disable_ipv6=1
"""


@pytest.fixture
def seen(host: Host) -> Circumstances:
    (name,) = host.make("around")
    host.run(name, "sh", "-ec", _MADE)
    return circumstances.observe(host.kernel.namespaces[name])


@pytest.mark.host
def test_routes_of_every_table_and_type(seen: Circumstances) -> None:
    assert Path(to=network("10.2.0.0/16"), type="blackhole") in seen.paths
    assert Path(to=network("10.3.0.0/16"), type="prohibit", table=77) in seen.paths
    assert any((one.type, one.to) == ("unreachable", network("fd02::/64")) for one in seen.paths)
    via = ip("10.1.0.9")
    assert Path(to=network("10.4.0.0/16"), via=via, link="br0", metric=50) in seen.paths


@pytest.mark.host
def test_policy_rules(seen: Circumstances) -> None:
    by = {one.priority: one for one in seen.policies if 0 < one.priority < 200}
    assert by[100] == Policy(priority=100, version=4, table=77, source=network("10.1.0.7/32"))
    assert by[101] == Policy(priority=101, version=4, action="prohibit", mark=7, mask=0xFF)
    assert by[102] == Policy(
        priority=102, version=6, table=78, destination=network("fd03::/64"), link_in="br0",
        inverted=True,
    )  # fmt: skip
    assert by[103].narrow


@pytest.mark.host
def test_links_bridges_and_queues(seen: Circumstances) -> None:
    written = Acquainted(link="br0", ip=ip("10.1.0.9"), mac="02:00:00:00:00:09", permanent=True)
    assert written in seen.neighbours
    ports = {one.link: one for one in seen.ports}
    assert (ports["a0"].isolated, ports["a0"].learning, ports["a0"].flood) == (True, False, True)
    assert (ports["b0"].isolated, ports["b0"].state, ports["b0"].flood) == (False, 0, False)
    assert Learned(link="b0", mac="02:00:00:00:00:0a", static=True) in seen.learned
    assert "a1" in seen.no_arp and "a0" not in seen.no_arp
    assert any((one.link, one.kind) == ("a1", "tbf") for one in seen.queues)
    assert seen.settings["net.ipv4.conf.a0.forwarding"] == "1"
    assert seen.settings["net.ipv6.conf.b0.disable_ipv6"] == "1"


@pytest.mark.parametrize("size", [0, 3, 11])
def test_bytes_that_are_no_message(size: int) -> None:
    for parse in (wire.parse_rule, wire.parse_entry, wire.parse_vlans):
        with pytest.raises(WireError):
            parse(bytes(size))
