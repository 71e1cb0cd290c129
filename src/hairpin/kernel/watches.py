"""Hooks and conntrack of several namespaces listened to for one connection."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from hairpin.kernel import hooks
from hairpin.kernel.conntrack_events import FlowListener
from hairpin.kernel.hooks import Watch
from hairpin.kernel.netns import Netns
from hairpin.kernel.reactor import Reactor, Timer
from hairpin.state.conntrack import Flow
from hairpin.state.nftrace import Looked
from hairpin.trace.observation import Passage
from hairpin.trace.passages import Run
from hairpin.trace.rules import SavedRule

_PAUSE = 0.15  # seconds between readings; in a lab to read at once slows down what is looked at
_SHARE = 4  # times as long as a reading took, until the next


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What was told; the fields are those of ``trace.observation.Observation``."""

    passages: tuple[Passage, ...] = ()
    rules: tuple[SavedRule, ...] = ()
    hooked: dict[str, str] = {}
    gone: dict[str, tuple[Flow, ...]] = {}
    untold: int = 0


class Watches:
    """Listens from ``start`` to ``stop``; ``legacy`` and ``shared`` are as of ``hooks.Watch``."""

    def __init__(
        self, reactor: Reactor, looked: Looked, *, legacy: bool = False, shared: bool = False
    ) -> None:
        self._reactor = reactor
        self._looked = looked
        self._legacy = legacy
        self._shared = shared
        self._hooks: list[Watch] = []
        self._flows: list[FlowListener] = []
        self._ended: list[tuple[Watch, list[Run]]] = []
        self._timer: Timer | None = None

    def start(self, netns: Netns, texts: Mapping[str, str] | None) -> None:
        """Begins in a namespace: of a node with what its rules say (``Rewriting.texts``).

        Elsewhere only where somebody made rules.
        """
        version = self._looked.version
        if texts is None and not hooks.has_rules(netns, version, legacy=self._legacy):
            return
        tracked = texts is not None and hooks.is_tracked(netns, version)
        looked = msgspec.structs.replace(self._looked, tracked=tracked)
        watch = Watch(netns, looked, legacy=self._legacy, shared=self._shared)
        watch.start(texts)
        self._hooks.append(watch)
        if tracked:
            self._flows.append(FlowListener(netns, self._looked))
        self._timer = self._timer or self._reactor.after(_PAUSE, self._read)
        for fd in watch.urgent():
            self._reactor.on_readable(fd, watch.read)

    def stop(self) -> None:
        """Ends it; what was told is kept.  May be called again."""
        self._quiet()
        self._ended += [(one, one.stop()) for one in self._hooks]
        self._hooks = []
        for one in self._flows:
            one.stop()

    def close(self) -> None:
        """Ends it and takes away what was put there; may be called at any time."""
        self._quiet()
        for watch in self._hooks:
            watch.close()
        for flows in self._flows:
            flows.close()

    def told(self, texts: Mapping[str, Mapping[str, str]]) -> Told:
        """What was told; ``texts`` are what the rules of each namespace say after it."""
        passages: list[Passage] = []
        rules: list[SavedRule] = []
        for watch, runs in self._ended:
            saved = texts.get(watch.netns.name, {})
            some, met = hooks.passages(watch.netns, runs, saved, legacy=self._legacy)
            start = len(rules)
            rules += met
            passages += [
                msgspec.structs.replace(one, rules=tuple(at + start for at in one.rules))
                for one in some
            ]
        return Told(
            passages=tuple(passages),
            rules=tuple(rules),
            hooked={one.netns.name: one.means for one, _ in self._ended if one.means},
            gone={one.netns.name: tuple(one.gone) for one in self._flows if one.gone},
            untold=sum(one.lost for one, _ in self._ended),
        )

    def _read(self) -> None:
        """Makes room now and then; most of the time is left to others."""
        began = self._reactor.now()
        for watch in self._hooks:
            watch.read()
        took = self._reactor.now() - began
        self._timer = self._reactor.after(max(_PAUSE, took * _SHARE), self._read)

    def _quiet(self) -> None:
        """No more reading by itself."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for watch in self._hooks:
            for fd in watch.urgent():
                self._reactor.forget(fd)
