"""Who listens in a namespace, from the tables in /proc/net (proc(5))."""

from __future__ import annotations

from typing import Literal

import msgspec

from hairpin.model.address import IP, from_packed, ip
from hairpin.trace.observation import Place

_LISTEN = "0A"  # TCP_LISTEN
SCTP_TABLE = "sctp/eps"  # under /proc/net
_SCTP_LISTENING = "10"  # in decimal, as that table has it
_UNCONNECTED = "07"  # of a UDP socket: TCP_CLOSE


class Listener(msgspec.Struct, frozen=True):
    """A socket that takes connections, or datagrams from anybody."""

    protocol: Literal["TCP", "UDP", "SCTP"]
    ip: IP
    port: int
    waiting: int = 0  # of TCP: connections that nobody has accepted yet

    def takes(self, address: IP) -> bool:
        """Whether it hears what is sent to that address; :: by default hears IPv4 too."""
        if int(self.ip) == 0:
            return self.ip.version in (6, address.version)
        return self.ip == address


def listeners(place: Place) -> list[Listener]:
    """All of a namespace; of SCTP where the kernel has its sockets (``SCTP_TABLE``)."""
    found = []
    for name, protocol, state in (
        ("tcp", "TCP", _LISTEN),
        ("tcp6", "TCP", _LISTEN),
        ("udp", "UDP", _UNCONNECTED),
        ("udp6", "UDP", _UNCONNECTED),
    ):
        for line in place.texts.get(name, "").splitlines()[1:]:
            words = line.split()
            if len(words) > 3 and words[3] == state:
                address, _, port = words[1].partition(":")
                number = int(port, 16)
                if number:
                    queues = words[4] if len(words) > 4 else ""
                    waiting = int(queues.partition(":")[2] or "0", 16)
                    found.append(Listener(protocol, _ip(address), number, waiting))  # type: ignore[arg-type]
    return found + _of_sctp(place.texts.get(SCTP_TABLE, ""))


def _of_sctp(text: str) -> list[Listener]:
    """An endpoint a line: ENDPT SOCK STY SST HBKT LPORT UID INODE LADDRS (net/sctp/proc.c)."""
    rows = [line.split() for line in text.splitlines()[1:]]
    return [
        Listener("SCTP", ip(address), int(words[5]))
        for words in rows
        if len(words) > 8 and words[3] == _SCTP_LISTENING
        for address in words[8:]
    ]


def _ip(text: str) -> IP:
    """/proc writes each four bytes as one number in the machine's order, little endian here."""
    data = bytes.fromhex(text)
    return from_packed(b"".join(data[at : at + 4][::-1] for at in range(0, len(data), 4)))
