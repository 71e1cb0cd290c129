"""What may follow on a command line: ``hairpin __complete WORD…``, for the shells' scripts.

The last word is the one that is being typed, maybe empty.  Prints one candidate a line, a whole
word each, with a tab and what it means where that helps; ``:file`` for "a file's name", and
``:nospace`` when the word goes on.  Verbs are answered from the table alone; a verb's options from
its parser; names by asking the lab, where one is running.
"""

from __future__ import annotations

import os

from hairpin.cli.kinds import DESCRIBED, KINDS, NAMESPACED
from hairpin.cli.main import GLOBAL, VERBS

TYPE_CHECKING = False  # typing is not imported for it: this runs with every Tab
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator

    Names = dict[str, list[list[str]]]

FILE = ":file"
NOSPACE = ":nospace"

_KIND_OF = {
    "nodes": "Node",
    "deployments": "Deployment",
    "pods": "Pod",
    "services": "Service",
    "endpoints": "EndpointSlice",
}
MODES = ("ipvs", "iptables", "nftables")
_FILES = ("files", "config", "state", "junit", "pcap", "html", "collect", "flag_kubeconfig")
_OBJECTS = ("get", "describe", "delete")
_PLACES = ("exec", "shell", "logs")


def complete(words: list[str]) -> int:
    """Prints what may be the last of ``words``; ``--line TEXT`` is a whole line instead."""
    if words[:1] == ["--line"]:
        words = split(" ".join(words[1:2]))[1:]
    for one in candidates(words or [""]):
        print(one)
    return 0


def split(line: str) -> list[str]:
    """The words of a line that is being typed; the last one is empty after a space."""
    words, word, quote, escaped, begun = [], "", "", False, False
    for letter in line:
        if escaped:
            word, escaped = word + letter, False
        elif letter == "\\" and quote != "'":
            escaped = begun = True
        elif quote:
            word, quote = (word, "") if letter == quote else (word + letter, quote)
        elif letter in "'\"":
            quote, begun = letter, True
        elif letter.isspace():
            if word or begun:
                words.append(word)
            word, begun = "", False
        else:
            word += letter
    return [*words, word]


def candidates(words: list[str]) -> Iterator[str]:
    """The lines to print for these words."""
    *before, typed = words
    said: list[str] = []  # before the verb
    while before and before[0] in GLOBAL:
        if len(before) == 1:
            yield from _values_of(before[0], typed)
            return
        said, before = [*said, *before[:2]], before[2:]
    if not before:
        yield from _starting(typed, (f"{verb}\t{says}" for verb, (_, says) in VERBS.items()))
        return
    verb = before[0]
    if verb == "help" and len(before) == 1:
        yield from _starting(typed, VERBS)
    if verb not in VERBS or "--" in before:
        return
    from hairpin.cli.parser import parser_of

    parser, _ = parser_of(verb)
    options = {name: action for action in parser._actions for name in action.option_strings}
    line = _Line([*said, *before[1:]], options)
    name, equals, value = typed.partition("=")
    if equals and name in options:
        for one in _values(options[name], line.lab, value):
            yield one if one.startswith(":") else f"{name}={one}"
    elif before[-1] in options and options[before[-1]].nargs is None:
        yield from _values(options[before[-1]], line.lab, typed)
    elif typed.startswith("-"):
        shown = (f"{name}\t{action.help or ''}" for name, action in options.items())
        yield from _starting(typed, shown)
    else:
        yield from _positional(verb, parser, line, typed)


class _Line:
    """What has been typed after a verb: the words that are no options, and some options."""

    def __init__(self, words: list[str], options: dict[str, argparse.Action]) -> None:
        self.words: list[str] = []
        self.namespace, self.everywhere = "default", False
        self.lab = os.environ.get("HAIRPIN_LAB", "default")
        waiting = iter(words)
        for word in waiting:
            name, equals, value = word.partition("=")
            if name not in options:
                self.words.append(word)
                continue
            if options[name].nargs is None and not equals:  # the next word is its value
                value = next(waiting, "")
            match options[name].dest:
                case "namespace":
                    self.namespace = value
                case "lab":
                    self.lab = value
                case "all_namespaces":
                    self.everywhere = True


def _values(action: argparse.Action, lab: str, typed: str) -> Iterator[str]:
    """What an option may be set to."""
    if action.choices:
        yield from _starting(typed, map(str, action.choices))
    elif action.dest == "mode":
        yield from _modes(typed)
    elif action.dest in _FILES:
        yield FILE
    elif action.dest in ("lab", "namespace"):
        yield from _values_of(f"--{action.dest}", typed, lab)
    elif action.dest == "node":
        yield from _starting(typed, (name for _, name in _names(lab).get("Node", [])))


def _values_of(option: str, typed: str, lab: str = "") -> Iterator[str]:
    """The labs that run, or the namespaces that one of them has."""
    if option == "--lab":
        yield from _starting(typed, _labs())
        return
    found = _names(lab or os.environ.get("HAIRPIN_LAB", "default"))
    spaces = {key[0] for keys in found.values() for key in keys if key[0]}
    yield from _starting(typed, sorted(spaces))


def _positional(
    verb: str, parser: argparse.ArgumentParser, line: _Line, typed: str
) -> Iterator[str]:
    if verb in _OBJECTS:
        yield from _objects(verb, line, typed)
    elif verb in _PLACES and not line.words:
        yield from _places(verb, line, typed)
        if verb != "logs":
            yield from _starting(typed, ["outside\tthe client beyond the cluster"])
    elif verb in ("scale", "rollout"):
        yield from _deployments(verb, parser, line, typed)
    elif verb in ("cordon", "uncordon"):
        yield from _starting(typed, _in(line, "nodes"))
    elif verb == "set" and line.words[:1] and line.words[0].startswith("link/"):
        yield from _link_states(typed)
    elif verb == "set" and typed.startswith("link/"):
        known = (*_in(line, "pods"), *_in(line, "nodes"))
        yield from _starting(typed, (f"link/{name}" for name in known))
    elif verb == "set":
        yield from _settings(typed)
    elif verb == "check":
        yield from _claims(line, typed)
    elif verb in ("trace", "break"):
        yield from _of_traces(verb, line, typed)
    elif verb == "migrate" and len(line.words) < 2:
        yield from _starting(typed, (mode for mode in MODES if mode not in line.words))
    elif not line.words:
        for action in parser._get_positional_actions():
            yield from _starting(typed, map(str, action.choices or ()))


def _modes(typed: str) -> Iterator[str]:
    """Of ``check --mode``: several, with commas between them, or all."""
    first, comma, last = typed.rpartition(",")
    said = first.split(",")
    known = MODES if comma else (*MODES, "all")
    yield from (first + comma + one for one in _starting(last, known) if one not in said)


def _deployments(
    verb: str, parser: argparse.ArgumentParser, line: _Line, typed: str
) -> Iterator[str]:
    """For ``rollout`` what to do, and then ``deployment/NAME`` for both."""
    if verb == "rollout" and not line.words:
        first = parser._get_positional_actions()[0]
        yield from _starting(typed, map(str, first.choices or ()))
        return
    named = line.words[1:] if verb == "rollout" else line.words
    names = _in(line, "deployments")
    if named and "/" not in named[0]:
        yield from _starting(typed, (name for name in names if name not in named))
        return
    word = typed.partition("/")[0] if "/" in typed else "deployment"
    yield from _starting(typed, (f"{word}/{name}" for name in names))


def _claims(line: _Line, typed: str) -> Iterator[str]:
    """Subjects, and the claims of the one that is being typed."""
    from hairpin.claims.catalogue import CLAIMS

    subjects = dict.fromkeys(claim.subject for claim in CLAIMS)
    names = (claim.id.removeprefix("services.") for claim in CLAIMS)
    found = names if "." in typed else subjects
    yield from _starting(typed, (one for one in found if one not in line.words))


def _objects(verb: str, line: _Line, typed: str) -> Iterator[str]:
    """Kinds first, then names; or ``KIND/NAME`` at any place."""
    if verb == "get" and line.words[:1] == ["rules"]:
        if len(line.words) == 1:
            yield from _starting(typed, (f"svc/{name}" for name in _in(line, "services")))
        return
    word, slash, _ = typed.rpartition("/")
    if slash or any("/" in each for each in line.words):
        kind = _kind(word)
        if kind and slash:
            yield from _starting(typed, (f"{word}/{name}" for name in _in(line, kind)))
        return
    if line.words:
        kind = _kind(line.words[0])
        given = set(line.words[1:])
        names = (name for name in _in(line, kind) if name not in given) if kind else ()
        yield from _starting(typed, names)
        return
    if verb == "get":
        yield from _starting(typed, ["rules\twhat serves a Service in the kernel, and why"])
    first, comma, last = typed.rpartition(",")
    for kind in _kinds_of(verb):
        if any(one.startswith(last) for one in KINDS.get(kind, (kind,))):
            yield first + comma + kind


def _kinds_of(verb: str) -> Iterable[str]:
    if verb == "describe":
        return DESCRIBED
    return [*_KIND_OF, "all"] if verb == "delete" else [*KINDS, "all"]


def _kind(word: str) -> str | None:
    return next((kind for kind, known in KINDS.items() if word.lower() in known), None)


def _in(line: _Line, kind: str) -> list[str]:
    """The names of a kind in the namespace that the line is about."""
    if kind == "ingredients":
        from hairpin.lab.ingredients import NAMES

        return list(NAMES)
    keys = _names(line.lab).get(_KIND_OF.get(kind, ""), [])
    wide = line.everywhere or kind not in NAMESPACED
    return [name for namespace, name in keys if wide or namespace == line.namespace]


def _places(verb: str, line: _Line, typed: str) -> Iterator[str]:
    """Pods, and where it can be also nodes."""
    if typed.startswith(("pod/", "pods/", "po/")):
        prefix = typed.partition("/")[0]
        yield from _starting(typed, (f"{prefix}/{name}" for name in _in(line, "pods")))
        return
    yield from _starting(typed, _in(line, "pods"))
    if verb != "logs":
        yield from _starting(typed, (f"node/{name}" for name in _in(line, "nodes")))


def _of_traces(verb: str, line: _Line, typed: str) -> Iterator[str]:
    """FROM and TO of a trace; a fault."""
    from hairpin.cli import complete_trace

    if verb == "break":
        yield from _starting(typed, complete_trace.faults() if not line.words else ())
        return
    found, space = _names(line.lab), line.namespace
    pods, nodes = found.get("Pod", []), found.get("Node", [])
    if not line.words:
        yield from _starting(typed, complete_trace.sources(pods, nodes, space))
    elif len(line.words) == 1:
        services = found.get("Service", [])
        ends = complete_trace.targets(
            typed, pods, nodes, services, space,
            lambda: complete_trace.service_ports(_services(line.lab), space),
        )  # fmt: skip
        yield from (one for one in ends if one.startswith((typed, NOSPACE)))


def _services(lab: str) -> list[dict[str, object]]:
    """All Services as the lab shows them; none where it does not answer."""
    from hairpin.lab.session import LabError
    from hairpin.world import directory
    from hairpin.world.client import Client

    try:
        shown: list[dict[str, object]] = Client(directory.path_of(lab)).call("get", kind="services")
    except (LabError, OSError):
        return []
    return shown


def _settings(typed: str) -> Iterator[str]:
    """``masquerade=off``: the ingredient, and then what it takes."""
    from hairpin.lab.ingredients import MEANINGS, NAMES, values

    name, equals, _ = typed.partition("=")
    if equals:
        known = values(name) if name in NAMES else MODES if name == "mode" else ()
        yield from _starting(typed, (f"{name}={value}" for value in known))
        return
    yield NOSPACE
    yield from _starting(typed, ("link/\ta Pod's or a node's link",))
    yield from _starting(typed, ("mode=\thow Services are carried",))
    yield from _starting(typed, (f"{one}=\t{MEANINGS[one]}" for one in NAMES))


def _link_states(typed: str) -> Iterator[str]:
    """What a link can be: ``down``, or a word that goes on after its ``=``."""
    yield from _starting(typed, ("down", "up", "none"))
    values = [one for one in ("delay=", "jitter=", "loss=", "mtu=", "notice=") if typed != one]
    found = list(_starting(typed, values))
    if found:
        yield NOSPACE
        yield from found


def _names(lab: str) -> Names:
    """Every object's namespace and name by kind; none where no lab answers."""
    from hairpin.lab.session import LabError
    from hairpin.world import directory
    from hairpin.world.client import Client

    try:
        found: Names = Client(directory.path_of(lab)).call("names")
    except (LabError, OSError):
        return {}
    return found


def _labs() -> list[str]:
    from hairpin.lab.session import LabError
    from hairpin.world import directory

    try:
        return directory.all_alive()
    except (LabError, OSError):
        return []


def _starting(typed: str, given: Iterable[str]) -> Iterator[str]:
    return (one for one in given if one.startswith(typed))
