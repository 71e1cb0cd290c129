"""Changes of objects that many claims want at the same time, made as few as possible.

A lab admits all its objects anew with each change, so one change of forty objects costs it little
more than one of a single object.  Whoever comes while a change is under way waits, and the next
one is that of all who wait.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, Literal

from hairpin.claims.runner import Caller
from hairpin.lab.session import LabError

Shapes = Sequence[dict[str, Any]]
Verb = Literal["apply", "delete"]


class _Wanted:
    """One claim's change, and what became of it."""

    def __init__(self, verb: Verb, items: Shapes) -> None:
        self.verb: Verb = verb
        self.items = items
        self.done = False
        self.error: Exception | None = None
        self.services: Shapes = ()


class Changes:
    """Makes changes of one lab for the threads of many claims."""

    def __init__(self, lab: Caller) -> None:
        self._lab = lab
        self._list = threading.Lock()
        self._turn = threading.Lock()
        self._waiting: list[_Wanted] = []

    def apply(self, objects: Shapes) -> Shapes:
        """Creates or changes objects; the lab's Services after that.  Raises LabError.

        Does not wait for Pods: it would wait for those of every claim.
        """
        return self._make(_Wanted("apply", objects))

    def delete(self, refs: Shapes) -> Shapes:
        """Deletes objects, likewise."""
        return self._make(_Wanted("delete", refs))

    def _make(self, mine: _Wanted) -> Shapes:
        with self._list:
            self._waiting.append(mine)
        with self._turn:
            if not mine.done:
                with self._list:
                    taken, self._waiting = self._waiting, []
                self._carry_out(taken)
        if mine.error is not None:
            raise mine.error
        return mine.services

    def _carry_out(self, taken: Sequence[_Wanted]) -> None:
        for verb in ("delete", "apply"):
            some = [one for one in taken if one.verb == verb]
            try:
                self._call(verb, [item for one in some for item in one.items])
            except (LabError, OSError) as error:
                if len(some) == 1:
                    some[0].error = error
                else:
                    self._one_by_one(some)
        try:
            services = self._lab.call("get", kind="services")
        except (LabError, OSError) as error:
            for one in taken:
                one.error = one.error or error
            services = []
        for one in taken:
            one.services, one.done = services, True

    def _one_by_one(self, some: Sequence[_Wanted]) -> None:
        """One of them is wrong: it alone fails."""
        for one in some:
            try:
                self._call(one.verb, one.items)
            except (LabError, OSError) as error:
                one.error = error

    def _call(self, verb: str, items: Shapes) -> None:
        if items and verb == "apply":
            self._lab.call("apply", objects=list(items), wait=0)
        elif items:
            self._lab.call("delete", refs=list(items), grace=0)
