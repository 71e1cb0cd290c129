"""The judge of claims is no rubber stamp: what it takes, and what it does not."""

import json

import pytest

from hairpin.claims.judge import held, timeout_for, times_for
from hairpin.claims.promises import REFUSED, TIMEOUT, Answered, Expect, Unanswered
from hairpin.lab.probe import Outcome, Seen
from hairpin.model.address import ip

NODE = ip("192.168.100.2")
POD = "10.244.1.4"


def _answer(pod: str, client: str = POD, source: str = POD, port: int = 8080) -> Seen:
    said = {
        "pod": pod,
        "namespace": "check",
        "node": "n1",
        "client": client,
        "clientPort": 40000,
        "server": "10.244.1.2",
        "serverPort": port,
    }
    return Seen(outcome="answered", status=200, body=json.dumps(said), source=source)


def _end(outcome: Outcome) -> Seen:
    return Seen(outcome=outcome, source=POD)


A, B = _answer("n1-a"), _answer("n2-a")
BOTH = Answered(by=("n1-a", "n2-a"))


@pytest.mark.parametrize(
    ("expect", "seen", "verdict"),
    [
        (BOTH, [A, B, A], True),
        (BOTH, [A, A, A], False),  # one that should answer does not
        (BOTH, [A, B, _answer("n3-a")], False),  # one answers that should not
        (BOTH, [A, B, _end("timeout")], False),
        (BOTH, [], False),
        (Answered(), [A], True),
        (Answered(), [_end("refused")], False),
        (Answered(by=("n1-a", "n2-a"), same=True), [A, A, A], True),
        (Answered(by=("n1-a", "n2-a"), same=True), [A, B, A], False),
        (Answered(by=("n1-a:8080",)), [A], True),
        (Answered(by=("n1-a:8081",)), [A], False),
        (Answered(by=("n1-a",), sees="kept"), [A], True),
        (Answered(by=("n1-a",), sees="kept"), [_answer("n1-a", client=str(NODE))], False),
        (Answered(by=("n1-a",), sees="node"), [_answer("n1-a", client=str(NODE))], True),
        (Answered(by=("n1-a",), sees="node"), [A], False),
        (Answered(status=503), [A], False),
        (Answered(by=("n1-a",)), [Seen(outcome="answered", body="the host")], False),
        (REFUSED, [_end("refused")], True),
        (REFUSED, [_end("timeout")], False),
        (REFUSED, [_end("refused"), A], False),
        (TIMEOUT, [_end("timeout")], True),
        (TIMEOUT, [_end("refused")], False),
        (TIMEOUT, [], False),
        (Unanswered(how=("timeout", "unreachable")), [_end("unreachable")], True),
    ],
)
def test_verdict(expect: Expect, seen: list[Seen], verdict: bool) -> None:
    assert held(expect, seen, [NODE]) is verdict


def test_enough_connections_to_see_every_pod() -> None:
    assert times_for(Answered(by=("a", "b", "c"))) >= 3
    assert times_for(Answered(by=("a", "b"), same=True)) >= 8  # 1 in 128 would pass by chance
    assert times_for(REFUSED) == 1


def test_a_timeout_is_told_before_a_lost_packet_is_sent_again() -> None:
    assert timeout_for(TIMEOUT, "TCP") < 1
    assert timeout_for(TIMEOUT, "SCTP") < 3
    assert timeout_for(BOTH, "TCP") > 1
    assert timeout_for(BOTH, "SCTP") > 3
