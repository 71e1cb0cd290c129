"""Whether what was seen is what must come of a try, and both in words.  Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

import msgspec

from hairpin.claims.promises import Answered, Expect, Unanswered
from hairpin.lab.probe import Protocol, Seen
from hairpin.model.address import IP


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What an echo server said."""

    pod: str
    client: str
    client_port: int = msgspec.field(name="clientPort", default=0)
    server_port: int = msgspec.field(name="serverPort", default=0)
    node: str = ""


def answer_of(seen: Seen) -> Answer | None:
    """None for no answer, and for one that is no echo server's."""
    if seen.outcome != "answered":
        return None
    try:
        return msgspec.json.decode(seen.body.encode(), type=Answer)
    except (msgspec.DecodeError, msgspec.ValidationError):
        return None


def times_for(expect: Expect) -> int:
    """How many connections show it: each of several Pods twice, as a rule."""
    match expect:
        case Answered(same=True):
            return 8
        case Answered(by=by):
            return 2 * len(by) if len(by) > 1 else 2 if by else 1
    return 1


def timeout_for(expect: Expect, protocol: Protocol) -> float:
    """Seconds for a connection.

    A lost SYN is sent again after 1 s (RFC 6298), a lost INIT after 3 s (RFC 9260); what should be
    answered gets more, for a guest whose one CPU has other things to do.
    """
    if isinstance(expect, Unanswered) and "timeout" in expect.how:
        return 0.9 if protocol != "SCTP" else 2.9
    return 4.0 if protocol != "SCTP" else 10.0


def held(expect: Expect, seen: Sequence[Seen], node_addresses: Collection[IP]) -> bool:
    """``node_addresses``: all that some node has, for who was masqueraded."""
    if isinstance(expect, Unanswered):
        return bool(seen) and all(one.outcome in expect.how for one in seen)
    if not seen or any(one.outcome != "answered" for one in seen):
        return False
    if expect.status is not None and any(one.status != expect.status for one in seen):
        return False
    answers = [answer_of(one) for one in seen]
    if expect.by and not _right_ones(expect, answers):
        return False
    if expect.sees is None:
        return True
    addresses = {str(address) for address in node_addresses}
    return all(
        answer is not None and _sight(answer, one, addresses, expect.sees)
        for answer, one in zip(answers, seen, strict=True)
    )


def _right_ones(expect: Answered, answers: Sequence[Answer | None]) -> bool:
    names = {
        (answer.pod, f"{answer.pod}:{answer.server_port}")
        for answer in answers
        if answer is not None
    }
    if any(answer is None for answer in answers):
        return False
    known = [next((name for name in pair if name in expect.by), None) for pair in names]
    if None in known:
        return False
    return len(set(known)) == 1 if expect.same else set(known) == set(expect.by)


def _sight(answer: Answer, seen: Seen, nodes: set[str], sees: str) -> bool:
    """A node that connects may be masqueraded to the very address that it had."""
    return answer.client == seen.source if sees == "kept" else answer.client in nodes


def expectation(expect: Expect) -> str:
    """In few words."""
    match expect:
        case Unanswered(how=how):
            return " or ".join(how)
        case Answered(by=by, same=same, sees=sees, status=status):
            names = (" or " if same else ", ").join(by)
            words = [
                f"answered by {'one of ' if same and len(by) > 1 else ''}{names}"
                if by
                else "answered"
            ]
            if status is not None:
                words.append(f"status {status}")
            if sees is not None:
                words.append("source kept" if sees == "kept" else "source is a node's")
            return ", ".join(words)


def sight(seen: Sequence[Seen], *, ports: bool = False) -> str:
    """What came of the connections, counted."""
    counts: Counter[str] = Counter()
    for one in seen:
        answer = answer_of(one)
        if answer is not None:
            name = f"{answer.pod}:{answer.server_port}" if ports else answer.pod
            counts[f"{name} saw {answer.client}"] += 1
        elif one.outcome == "answered":
            counts[f"answered{'' if one.status is None else f', status {one.status}'}"] += 1
        else:
            counts[one.outcome + (f" ({one.error})" if one.outcome == "error" else "")] += 1
    return ", ".join(f"{count}× {what}" if count > 1 else what for what, count in counts.items())
