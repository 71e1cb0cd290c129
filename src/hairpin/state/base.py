"""What all kernel objects share."""

from __future__ import annotations

import msgspec


class KernelObject(msgspec.Struct, frozen=True, tag_field="kind", kw_only=True):
    """One thing the kernel holds in a network namespace.

    Two objects with the same ``key`` are the same thing, maybe with other properties: the
    difference between them is a "set".  Values that exist are valid.
    """

    @property
    def key(self) -> tuple[object, ...]:
        """The identity inside one network namespace, its kind first; the rest means nothing.

        There may be ten thousands of servers, entries and addresses, and each is looked up:
        hashing and comparing ``ipaddress`` values costs seven times what their numbers cost, so
        that those have a number and a version in their place.
        """
        raise NotImplementedError

    @property
    def exclusive(self) -> str:
        """What only one Service can have, in words; "" for what several may share."""
        return ""
