"""Bytes through the channel, compared by their checksum."""

from __future__ import annotations

import hashlib

from hairpin.lab.session import STDOUT
from hairpin.world.client import Client

MB = 1 << 20


def source(client: Client, count: int) -> None:
    """Has the guest send that many bytes and compares what arrives with what it says it sent."""
    digest, got = hashlib.sha256(), 0
    with client.stream("source", bytes=count) as stream:
        for kind, payload in stream.frames():
            if kind == STDOUT:
                digest.update(payload)
                got += len(payload)
        assert got == count
        assert stream.reply == {"bytes": count, "sha256": digest.hexdigest()}


def sink(client: Client, count: int) -> None:
    """Sends that many bytes and compares them with what the guest says it received."""
    digest, left, data = hashlib.sha256(), count, bytes(range(256)) * 256
    with client.stream("sink", bytes=count) as stream:
        while not stream.over:
            while left and stream.pending < MB:
                piece = data[:left]
                stream.send_stdin(piece)
                digest.update(piece)
                left -= len(piece)
            stream.wait(timeout=30)
        assert stream.reply == {"bytes": count, "sha256": digest.hexdigest()}
