"""nftables mode, as kube-proxy has it: one table for each IP version, and nothing outside it.

desired: what Services ask, planned one at a time (``Wants``).  observe: what the two tables hold.
apply: differences made true, what belongs together in one transaction.  clean_up: both tables
taken away.

The tables are ours alone, whoever made them: kube-proxy's are taken over as they are.

Reading a large table is dear (10 000 Services: seconds), and nf_tables counts its transactions in
each namespace: where the count is what it was after our own last one, nobody has written since, and
the tables need not be read to know that they are as they should be.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import msgspec
from msgspec.structs import replace

from hairpin.kernel.apply import Failed, Kernel
from hairpin.kernel.errors import KernelError
from hairpin.mode import difference
from hairpin.mode.base import Compared
from hairpin.mode.difference import Wishes
from hairpin.mode.ownership import DUMMY
from hairpin.mode.stages import send
from hairpin.mode.wants import Adjust, Differences, Wants, put_change
from hairpin.model.address import IP
from hairpin.model.configuration import KubeProxyConfiguration
from hairpin.plan.nft_names import FAMILIES, TABLE
from hairpin.plan.nftables import NftPlanner
from hairpin.plan.node import NodeFacts
from hairpin.state.change import Change, Object, Wanted
from hairpin.state.nftables import NftChain, NftElement, NftObject, NftSet, NftTable
from hairpin.state.sysctl import Sysctl

_KINDS = (NftTable, NftSet, NftChain, NftElement)
_RANK: dict[type, int] = {kind: rank for rank, kind in enumerate((Sysctl, *_KINDS))}
_STRAY = "not wanted by any Service"


class _Settled(msgspec.Struct, frozen=True):
    """At that count of transactions the kernel held what ``wants`` says, so adjusted."""

    generation: int
    wants: Wants
    adjust: Adjust | None


class NftablesMode:
    """One network namespace programmed in nftables mode.

    Of what it did it holds no more than how many transactions there were when all was well.
    """

    def __init__(self, kernel: Kernel, netns: str, config: KubeProxyConfiguration) -> None:
        self.kernel = kernel
        self.netns = netns
        self._config = config
        self._settled: _Settled | None = None

    def desired(self, node: NodeFacts, adjust: Adjust | None = None) -> Wants:
        """Nothing but the frame so far; put Services into it."""
        wants = Wants(self._plan_for, node, self.netns, adjust)
        wants.forget_changes()
        return wants

    def node_addresses(self) -> list[IP]:
        """The addresses of all links but kube-ipvs0, which another mode may have left.

        Raises KernelError.
        """
        seen = self.kernel.observe_addresses(self.netns)
        return [one.ip for one in seen if one.link != DUMMY]

    def observe(self) -> list[Object]:
        """The two tables with all that is in them, clients' entries in affinity sets left out.

        Raises KernelError.
        """
        return [one for version in FAMILIES for one in self._table(version, ())]

    def compare(self, wants: Wants) -> Compared:
        """How the kernel differs from what is wanted.  Does not raise for the kernel."""
        found = Differences()
        unread: dict[str, KernelError] = {}
        wishes = Wishes(wants)
        difference.settings(wishes, self._settings(wishes), found)
        before = self._generation()
        if before is not None and self._is_settled(wants, before):
            return Compared(found, [], unread)
        settings = len(found)
        for version, family in FAMILIES.items():
            wanted = [
                want
                for kind in _KINDS
                for want in wishes.of(kind)
                if isinstance(want.object, _KINDS) and _family(want.object) == family
            ]
            chains = [want.object for want in wanted if isinstance(want.object, NftChain)]
            try:
                seen = {one.key: one for one in self._table(version, chains)}
            except OSError as error:
                unread[f"table ({family})"] = KernelError.of(error)
                found.missing += wanted
                continue
            _compare(wants, wanted, seen, found)
        self._settled = None
        nothing = len(found) == settings and not unread
        if nothing and before is not None and before == self._generation():
            self._settled = _Settled(before, wants, wants.adjust)
        return Compared(found, [], unread)

    def differences(self, wants: Wants) -> list[Change]:
        """The Changes that would bring this kernel to what is wanted, nothing of it applied.

        Raises KernelError when the kernel cannot be read.
        """
        compared = self.compare(wants)
        for error in compared.unread.values():
            raise error
        return list(compared.differences)

    def apply(self, differences: Differences) -> list[Failed]:
        """Applies all that can be; gives what is not so.  Does not raise for the kernel.

        What is added comes first, so that a packet finds the old or the new and never neither;
        the kernel takes all of a small difference at once.  A table that is to be made anew goes
        before that.
        """
        anew = [one for one in differences.removals if isinstance(one.object, NftTable)]
        puts = [*differences.puts, *map(put_change, differences.missing)]
        puts.sort(key=_rank)
        gone = [one for one in differences.removals if not isinstance(one.object, NftTable)]
        gone.sort(key=_rank, reverse=True)
        settled = self._settled
        if settled is not None and settled.generation != self._generation():
            settled = None  # somebody wrote: the next comparison has to find out what
        failed = send(self.kernel, anew) + send(self.kernel, [*puts, *gone])
        if settled is not None:
            after = self._generation()
            ours = bool(anew) + any(isinstance(one.object, _KINDS) for one in (*puts, *gone))
            settled = replace(settled, generation=settled.generation + ours)
            if failed or anew or after != settled.generation:
                settled = None
        self._settled = settled
        return failed

    def clean_up(self, kept: Collection[str] = ()) -> tuple[list[Change], list[Failed]]:
        """Removes both tables: what was tried, and what of it could not be done.

        No other mode has anything in them, so ``kept`` makes no difference.  Settings stay as
        they are.  Raises KernelError when the kernel cannot be read.
        """
        del kept
        gone = [
            Change(verb="remove", netns=self.netns, object=one, reason="clean-up")
            for family in FAMILIES.values()
            for one in self.kernel.nft_tables(self.netns, family)
            if one.name == TABLE  # all else goes with it
        ]
        return gone, send(self.kernel, gone)

    def _is_settled(self, wants: Wants, generation: int) -> bool:
        known = self._settled
        return (
            known is not None
            and (known.generation, known.adjust) == (generation, wants.adjust)
            and known.wants is wants
        )

    def _generation(self) -> int | None:
        try:
            return self.kernel.nft_generation(self.netns)
        except OSError:
            return None

    def _plan_for(self, node: NodeFacts) -> NftPlanner:
        return NftPlanner(self._config, node, self.netns)

    def _table(self, version: int, expected: Sequence[NftChain]) -> list[NftObject]:
        """What a table holds; reading is cheaper where chains are as ``expected``."""
        return self.kernel.observe_nft(self.netns, FAMILIES[version], TABLE, expected)

    def _settings(self, wishes: Wishes) -> list[Sysctl]:
        seen: list[Sysctl] = []
        for want in wishes.of(Sysctl):
            assert isinstance(want.object, Sysctl)
            try:
                seen.append(self.kernel.read_sysctl(self.netns, want.object.name))
            except OSError:
                continue  # setting it says why, if it is so still
        return seen


def _compare(
    wants: Wants,
    wanted: Sequence[Wanted],
    seen: dict[tuple[object, ...], NftObject],
    found: Differences,
) -> None:
    for want in wanted:
        one = want.object
        have = seen.get(one.key)
        if isinstance(one, NftSet) and isinstance(have, NftSet) and not _alike(one, have):
            _make_anew(wants, wanted, one, found)
            return
    for want in wanted:
        have = seen.pop(want.object.key, None)
        if have is None:
            found.missing.append(want)
        elif have != want.object and not _only_comments_differ(want.object, have):
            found.puts.append(put_change(want, have))
    for one in seen.values():
        found.removals.append(Change(verb="remove", netns=wants.netns, object=one, reason=_STRAY))


def _make_anew(wants: Wants, wanted: Iterable[Wanted], because: NftSet, found: Differences) -> None:
    """A set cannot become another one while rules look into it, nor be taken from them one by one
    without a moment in which they are wrong: the whole table goes, and comes again."""
    table = NftTable(family=because.family, name=because.table)
    why = f"set {because.name} is of another type"
    found.removals.append(Change(verb="remove", netns=wants.netns, object=table, reason=why))
    found.missing += wanted


def _alike(one: NftSet, other: NftSet) -> bool:
    """Whether they differ at most in what the kernel lets a set change, or does not know."""
    return replace(one, timeout=0, comment="") == replace(other, timeout=0, comment="")


def _only_comments_differ(one: Object, other: Object) -> bool:
    """Of sets: nobody can change theirs, and other versions of kube-proxy have others."""
    return (
        isinstance(one, NftSet)
        and isinstance(other, NftSet)
        and replace(one, comment="") == replace(other, comment="")
    )


def _family(one: NftObject) -> str:
    return one.family


def _rank(change: Change) -> int:
    return _RANK[type(change.object)]
