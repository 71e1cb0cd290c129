"""The channel under load: nothing lost, nobody waits for somebody else, the guest survives."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hairpin.lab.session import STDOUT
from hairpin.world import lifecycle
from hairpin.world.client import Client
from tests.world.traffic import MB, sink, source
from tests.world.watching import LONG, keeper_of

pytestmark = pytest.mark.guest

SIZE = 100 * MB


def together(*calls: Callable[[], object]) -> None:
    """Runs the calls at once; raises what one of them raised."""
    errors: list[BaseException] = []

    def run(call: Callable[[], object]) -> None:
        try:
            call()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)
        assert not thread.is_alive(), "does not end"
    if errors:
        raise errors[0]


def answers_soon(client: Client, seconds: float = 1.0) -> None:
    started = time.monotonic()
    client.call("ping")
    assert time.monotonic() - started < seconds


def test_100_mb_from_the_guest(guest: Client) -> None:
    source(guest, SIZE)


def test_100_mb_to_the_guest(guest: Client) -> None:
    sink(guest, SIZE)


def test_both_ways_at_once(guest: Client) -> None:
    together(lambda: source(guest, SIZE), lambda: sink(guest, SIZE))


def test_twenty_clients_at_once(guest: Client) -> None:
    calls: list[Callable[[], object]] = []
    for number in range(20):
        verb = (source, sink)[number % 2]
        calls.append(lambda verb=verb: verb(guest, MB))  # type: ignore[misc]  # mypy 2 cannot infer a lambda with defaults
    together(*calls)


def test_a_slow_reader_waits_alone_and_loses_nothing(guest: Client) -> None:
    count, seconds = 8 * MB, 20 if LONG else 2
    digest, got = hashlib.sha256(), 0
    with guest.stream("source", bytes=count) as stream:
        until = time.monotonic() + seconds
        while not stream.over:
            for kind, payload in stream.wait(timeout=30)[0]:
                assert kind == STDOUT
                digest.update(payload)
                got += len(payload)
            if time.monotonic() < until:
                answers_soon(guest)
                time.sleep(0.25 * 256 / 64)  # one read is 256 KiB at most: 64 KB/s and a burst
        assert got == count
        assert stream.reply["sha256"] == digest.hexdigest()


READER = """
import sys
from pathlib import Path
from hairpin.world.client import Client
from tests.world.traffic import source
client = Client(Path(sys.argv[1]))
print("reading", flush=True)
source(client, int(sys.argv[2]))
print("same", flush=True)
"""


def test_a_stopped_client_stalls_only_itself(guest: Client) -> None:
    """What Ctrl-Z does: SIGSTOP in the middle of an answer, SIGCONT later."""
    with subprocess.Popen(
        [sys.executable, "-c", READER, str(guest.path), str(200 * MB)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    ) as reader:
        assert reader.stdout
        assert reader.stdout.readline() == "reading\n"
        time.sleep(0.1)
        reader.send_signal(signal.SIGSTOP)
        until = time.monotonic() + (20 if LONG else 2)
        while time.monotonic() < until:
            answers_soon(guest)
            together(lambda: source(guest, 4 * MB), lambda: sink(guest, 4 * MB))
        assert reader.poll() is None
        reader.send_signal(signal.SIGCONT)
        assert reader.stdout.readline() == "same\n"


def test_a_client_that_goes_away_is_forgotten(guest: Client) -> None:
    for _ in range(30):
        with guest.stream("source", bytes=SIZE) as stream:
            stream.wait(timeout=10)
        with guest.stream("sink", bytes=SIZE) as stream:
            stream.send_stdin(bytes(MB))
    answers_soon(guest)
    sink(guest, MB)


@pytest.mark.parametrize("verb", ["source", "sink"])
def test_a_stopped_keeper_does_not_harm_the_guest(runtime_folder: str, verb: str) -> None:
    """The host end of the channel stands still with the guest in the middle of megabytes."""
    with lifecycle.ephemeral("stopped", "guest") as client:
        keeper = keeper_of(client.path)
        work = {"source": source, "sink": sink}[verb]
        busy = threading.Thread(target=lambda: work(client, SIZE))
        busy.start()
        time.sleep(0.15)
        os.kill(keeper, signal.SIGSTOP)
        time.sleep(60 if LONG else {"source": 10, "sink": 3}[verb])
        assert busy.is_alive()
        os.kill(keeper, signal.SIGCONT)
        busy.join(30)
        assert not busy.is_alive()
        work(client, MB)
        answers_soon(client)
