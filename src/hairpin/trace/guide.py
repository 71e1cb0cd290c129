"""What is known of all the namespaces, for telling packets' ways."""

from __future__ import annotations

from hairpin.state.change import Wanted
from hairpin.trace.follow import Followed, Sight
from hairpin.trace.hooked import Hooked
from hairpin.trace.observation import Observation, Place
from hairpin.trace.rules import SavedRule, could_match, counted

_KINDS = {4: "ip", 6: "ip6"}


class Guide:
    """What was observed, and what follows from it for every packet."""

    def __init__(self, found: Observation, followed: Followed) -> None:
        self.found = found
        self.forms = followed.forms
        self.hooked = Hooked(found, followed)
        self.begin = min((one.first.seen.at for one in followed.flights), default=0.0)
        self._wanted = {(one.netns, one.object.key): one for one in found.wanted}
        self._counted: dict[str, list[SavedRule]] = {}

    def place(self, netns: str) -> Place:
        """The namespace, or one that nothing is known of."""
        known = self.found.place(netns)
        return known or Place(netns=netns, role="other", name=netns)

    def rules(self, place: Place) -> list[SavedRule]:
        """The rules that counted packets meanwhile and may have matched the connection's."""
        if place.netns not in self._counted:
            some: list[SavedRule] = []
            for name, family in (("iptables", "ip"), ("ip6tables", "ip6")):
                old = place.before.texts.get(name, "")
                new = place.after.texts.get(name, "")
                if new and _KINDS[self.found.tried.ip.version] == family:
                    some += counted(old, new, family)
            self._counted[place.netns] = [
                one for one in some if could_match(one, self.forms, self.found.tried.protocol)
            ]
        return self._counted[place.netns]

    def wanted(self, netns: str, key: tuple[object, ...]) -> Wanted | None:
        """Who asked for a kernel object."""
        return self._wanted.get((netns, key))

    def when(self, sight: Sight) -> float:
        """Seconds since the first packet."""
        return round(sight.seen.at - self.begin, 6)

    def owner(self, netns: str, rule: SavedRule) -> Wanted | None:
        """Who asked for the chain that a rule stands in."""
        for one in self.found.wanted:
            if one.netns == netns and rule.chain == getattr(one.object, "name", ""):
                return one
        return None
