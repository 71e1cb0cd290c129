"""What a person may write for the two ends of a traced connection, and what is said of the rest."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hairpin.claims.ends import Aim, Question, aim_of, netns_of
from hairpin.lab.session import LabError
from tests.trace.test_reason import recorded

SNAPSHOT = recorded("answered")[1]
FAR = "10.96.0.103"


def _aim(to: str, **more: object) -> Aim:
    return aim_of(SNAPSHOT, msgspec.convert({"source": "foo", "to": to, **more}, Question))


@pytest.mark.parametrize(
    ("to", "more", "meant"),
    [
        ("svc/far", {}, (FAR, 80, "TCP")),
        ("svc/far:udp", {}, (FAR, 80, "UDP")),
        ("SVC/default/far:http", {}, (FAR, 80, "TCP")),
        ("svc/far:", {"protocol": "udp"}, (FAR, 80, "UDP")),
        ("svc/far:81", {}, (FAR, 81, "TCP")),
        ("svc/far", {"protocol": "icmp"}, (FAR, 0, "ICMP")),
        ("far", {}, ("10.244.2.10", 8080, "TCP")),
        ("pod/far:99", {}, ("10.244.2.10", 99, "TCP")),
        ("default/far:udp", {}, ("10.244.2.10", 8080, "TCP")),
        ("far", {"port": "http"}, ("10.244.2.10", 8080, "TCP")),
        ("node/n1:30080", {}, ("192.168.100.2", 30080, "TCP")),
        ("10.0.0.1:80", {}, ("10.0.0.1", 80, "TCP")),
        ("[fd00::1]:80", {}, ("fd00::1", 80, "TCP")),
        ("fd00::1", {"port": "80"}, ("fd00::1", 80, "TCP")),
        ("localhost:8080", {}, ("127.0.0.1", 8080, "TCP")),
    ],
)
def test_whom_it_is_to(to: str, more: dict[str, object], meant: tuple[str, int, str]) -> None:
    aim = _aim(to, **more)
    assert (str(aim.ip), aim.port, aim.protocol) == meant


@pytest.mark.parametrize(
    ("to", "more", "what", "remedy"),
    [
        ("", {}, 'there is no Pod ""', "TO is "),
        ("svc/", {}, 'there is no Service ""', "there are: bar, far, foo"),
        ("svc/nobody", {}, "there is no Service nobody", "there are: "),
        ("svc/far:x", {}, "Service far has no port x", "it has: http/TCP, udp/UDP"),
        ("svc/far", {"ipv6": True}, "no cluster IP of IPv6", "one of its Pods"),
        ("svc/far:99999", {}, '"99999" is no port', "1 to 65535"),
        ("nobody", {"namespace": "x"}, "there is no Pod x/nobody", "TO is "),
        ("n1", {}, "there is no Pod n1", "node/n1:PORT"),
        ("outside", {}, "there is no Pod outside", "TO is "),
        ("node/n1", {}, "node/n1: to which port?", "--port 8080"),
        ("node/n1:", {}, "node/n1: to which port?", "node/n1 --port"),
        ("node/n9:80", {}, 'there is no node "n9"', "n1, n2"),
        ("10.1.2.300:80", {}, "10.1.2.300 is no IP address", "TO is "),
        ("[fd00::1:80", {}, "[fd00::1:80 is no address", "[fd00::1]:80"),
        ("[x]:80", {}, "x is no IP address", "TO is "),
        ("0.0.0.0:80", {}, "nobody's own address", "TO is "),
        ("224.0.0.1:80", {}, "nobody's own address", "TO is "),
        ("far", {"ipv6": True}, "Pod far has no address of IPv6", "without -6"),
        ("far", {"port": "smtp"}, '"smtp" is no port', "1 to 65535"),
        ("far", {"port": "-1"}, '"-1" is no port', "1 to 65535"),
        ("far", {"port": "٣"}, "is no port", "1 to 65535"),
        ("far", {"port": "80", "protocol": "icmp"}, "a ping has no port", "--port"),
        ("x/y/z", {}, "there is no Pod x/y/z", "TO is "),
    ],
)
def test_what_is_wrong_is_said(to: str, more: dict[str, object], what: str, remedy: str) -> None:
    with pytest.raises(LabError) as said:
        _aim(to, **more)
    assert what in said.value.message
    assert remedy in (said.value.remedy or "")
    assert said.value.exit_code == 2


@pytest.mark.parametrize(
    ("word", "netns"),
    [("foo", "foo"), ("default/foo", "foo"), ("po/foo", "foo"), ("node/n1", "node_n1"),
     ("outside", "outside_")],
)  # fmt: skip
def test_who_asks(word: str, netns: str) -> None:
    assert netns_of(SNAPSHOT, word, "default") == netns


@pytest.mark.parametrize(
    ("word", "what"),
    [
        ("svc/far", "a Service is only asked"),
        ("node/", 'there is no node ""'),
        ("node", "there is no Pod node"),
        ("", 'there is no Pod ""'),
    ],
)
def test_who_cannot_ask(word: str, what: str) -> None:
    with pytest.raises(LabError, match=what):
        netns_of(SNAPSHOT, word, "default")


@given(st.text(max_size=30), st.text(max_size=8), st.sampled_from(["", "tcp", "icmp", "sctp"]))
def test_no_word_is_more_than_wrong(to: str, port: str, protocol: str) -> None:
    for act in (
        lambda: aim_of(SNAPSHOT, Question(source="foo", to=to, port=port, protocol=protocol)),
        lambda: netns_of(SNAPSHOT, to, "default"),
    ):
        try:
            act()
        except LabError as error:
            assert error.exit_code == 2
