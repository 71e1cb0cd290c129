"""Settings are those of the namespace, not of the host."""

from __future__ import annotations

from pathlib import Path

import pytest

from hairpin.kernel.errors import KernelError
from hairpin.state.links import Link
from hairpin.state.sysctl import Sysctl
from tests.kernel.host import Host

pytestmark = pytest.mark.host

FORWARD = "net.ipv4.ip_forward"


def test_a_setting_is_per_namespace(host: Host) -> None:
    one, two = host.make("one", "two")
    outside = Path("/proc/sys/net/ipv4/ip_forward").read_text()
    for value in ("1", "0", "1"):
        host.must(host.put(Sysctl(name=FORWARD, value=value), one))
        assert host.kernel.read_sysctl(one, FORWARD).value == value
        assert host.run(one, "sysctl", "-n", FORWARD).strip() == value
        assert host.kernel.read_sysctl(two, FORWARD).value == "0"
    assert Path("/proc/sys/net/ipv4/ip_forward").read_text() == outside


def test_a_link_with_a_dot_is_written_with_a_slash(host: Host) -> None:
    (node,) = host.make("node")
    host.must(host.add(Link(name="eth0.1", type="veth"), node))
    setting = Sysctl(name="net.ipv4.conf.eth0/1.rp_filter", value="2")
    host.must(host.put(setting, node))
    assert host.kernel.read_sysctl(node, setting.name) == setting
    assert host.run(node, "cat", "/proc/sys/net/ipv4/conf/eth0.1/rp_filter").strip() == "2"


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("net.ipv4.no_such_thing", "1", r"ENOENT.*no_such_thing"),
        ("net.ipv4.ip_forward", "many", r"EINVAL.*ip_forward = many"),
        ("kernel.panic", "no number", r"EINVAL.*no setting of a network namespace"),
        ("net...kernel.panic", "no number", r"EINVAL.*no setting of a network namespace"),
        ("net.//.//.kernel.panic", "no number", r"EINVAL.*no setting of a network namespace"),
    ],
)
def test_what_cannot_be_set_is_said(host: Host, name: str, value: str, error: str) -> None:
    (node,) = host.make("node")
    (failed,) = host.kernel.apply([host.put(Sysctl(name=name, value=value), node)])
    with pytest.raises(KernelError, match=error):
        raise failed.error
