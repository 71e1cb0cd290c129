"""Free addresses of one network."""

from __future__ import annotations

from hairpin.model.address import IP, Network


class Pool:
    """Who has which address of a network; the free ones are handed out lowest first.

    The network's own address is nobody's, nor is an IPv4 network's broadcast address.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        self._holders: dict[IP, str] = {}
        self._next = 1  # every lower offset is held
        self._size = network.num_addresses - (1 if network.version == 4 else 0)

    def refusal(self, ip: IP, name: str) -> str:
        """Why nobody can have ``ip`` in the network called ``name``, or ""."""
        if ip.version != self.network.version or ip not in self.network:
            return f"{ip} is outside of {name} {self.network}"
        if ip == self.network.network_address:
            return f"{ip} is the address of the network itself, {name} {self.network}"
        if self.network.version == 4 and ip == self.network.broadcast_address:
            return f"{ip} is the broadcast address of {name} {self.network}"
        return ""

    def holder(self, ip: IP) -> str | None:
        """Who has the address."""
        return self._holders.get(ip)

    def hold(self, ip: IP, holder: str) -> None:
        """Takes a free address out of the pool."""
        self._holders[ip] = holder

    def take(self, holder: str) -> IP | None:
        """The lowest free address, now held; None where the network is full."""
        while self._next < self._size:
            ip = self.network.network_address + self._next
            if ip not in self._holders:
                self._holders[ip] = holder
                return ip
            self._next += 1
        return None

    def highest_free(self) -> IP | None:
        """The highest free address; it stays free.  None where the network is full."""
        offset = self._size - 1
        while offset >= self._next:
            ip = self.network.network_address + offset
            if ip not in self._holders:
                return ip
            offset -= 1
        return None

    @property
    def first(self) -> IP:
        """The lowest address that somebody can have."""
        return self.network.network_address + 1

    @property
    def last(self) -> IP:
        """The highest address that somebody can have."""
        return self.network.network_address + self._size - 1
