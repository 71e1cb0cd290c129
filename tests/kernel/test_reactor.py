"""The event loop: what is told of a descriptor is told to who has it now."""

from __future__ import annotations

import os
import signal

from hairpin.kernel.reactor import Reactor


def test_what_waited_at_a_closed_descriptor_is_not_told_to_its_successor() -> None:
    errors: list[BaseException] = []
    reactor = Reactor(errors.append)
    pipes = [os.pipe(), os.pipe()]
    child = 0
    ended: list[int] = []

    def replace(here: int, other: int) -> None:
        """The first of two that can be read closes the other, and a process gets its number."""
        nonlocal child
        for fd in (here, other):
            reactor.forget(fd)
        os.close(other)
        child = os.fork()
        if not child:
            signal.alarm(10)
            signal.pause()
            os._exit(0)
        reactor.on_exit(child, ended.append)  # would wait for its end, if told of the other's event

    (first, to_first), (second, to_second) = pipes
    reactor.on_readable(first, lambda: replace(first, second))
    reactor.on_readable(second, lambda: replace(second, first))
    os.write(to_first, b"x")
    os.write(to_second, b"x")
    reactor.after(0.05, lambda: os.kill(child, signal.SIGTERM))
    reactor.after(0.2, reactor.stop)
    signal.alarm(20)  # it would be for ever
    reactor.run()
    signal.alarm(0)
    assert ended == [signal.SIGTERM] and not errors
    for fd in (to_first, to_second):
        os.close(fd)
