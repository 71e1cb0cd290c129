"""A probe and its server in one loop: a loop that was busy is no network that lost packets."""

import socket
import time
from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from hairpin.kernel.netns import Netns
from hairpin.kernel.reactor import Reactor
from hairpin.lab.probe import Attempt, Probe, Seen

pytestmark = pytest.mark.host


@pytest.fixture
def netns() -> Iterator[Netns]:
    made = Netns.create("probe")
    yield made
    made.close()


def _raise(error: BaseException) -> None:
    raise error


def _serve(reactor: Reactor, server: socket.socket) -> None:
    """As the echo servers do: accept in one turn, read and answer in others."""
    connection, _ = server.accept()

    def answer() -> None:
        reactor.forget(connection.fileno())
        connection.recv(1000)
        connection.send(b"HTTP/1.0 200 OK\r\n\r\nhello")
        connection.close()

    reactor.on_readable(connection.fileno(), answer)


def _tried(netns: Netns, *, stall: float, answers: bool) -> Seen:
    reactor = Reactor(_raise)
    found: list[Seen] = []
    with netns.entered():
        server = socket.create_server(("127.0.0.1", 8080))

    def done(seen: Seen) -> None:
        found.append(seen)
        reactor.stop()

    if answers:
        reactor.on_readable(server.fileno(), lambda: _serve(reactor, server))
    probe = Probe(ip=ip_address("127.0.0.1"), port=8080, timeout=0.1)
    Attempt(reactor, netns, probe, done).start()
    reactor.after(0, lambda: time.sleep(stall))
    reactor.run()
    server.close()
    return found[0]


def test_a_loop_that_was_busy_for_longer_than_the_probe_waits(netns: Netns) -> None:
    seen = _tried(netns, stall=0.5, answers=True)
    assert (seen.outcome, seen.status) == ("answered", 200)


def test_what_does_not_answer_times_out_when_its_time_is_over(netns: Netns) -> None:
    seen = _tried(netns, stall=0.0, answers=False)
    assert seen.outcome == "timeout"
    assert 0.1 <= seen.seconds < 5
