"""What can be wrong with the tables of nftables mode."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

from tests.audit.damage import (
    EXTRA,
    MISSING,
    RULESET,
    WRONG,
    Damage,
    Edit,
    Told,
    absent,
    clean,
    found,
    shape,
    sub,
    swap,
    text,
    unjudged,
    written,
)

G01 = "service-WUZP6I72-default/g01-clusterip-tcp/tcp/p"
OURS = '{"family":"ip","name":"kube-proxy","handle":3'
G03 = "service-L645YHE4-default/g03-multiport/tcp/http"
CHOICE = '[[0,{"concat":["10.200.0.11",8080]}],[1,{"concat":["10.200.1.11",8080]}]]'
MAPPED = '"mod":2,"offset":0}},"data":{"set":' + CHOICE
EITHER = (*MISSING, *WRONG)

Shape = dict[str, Any]


def _all(tables: Shape, kind: str, start: str, family: str = "ip") -> list[Shape]:
    """Sets, maps or chains whose names begin so; rules whose chains' do."""
    name = "chain" if kind == "rule" else "name"
    rows = [one[kind] for one in tables["nftables"] if kind in one]
    return [one for one in rows if one["family"] == family and one[name].startswith(start)]


def _each(kind: str, start: str, change: Callable[[Shape], object]) -> Edit:
    def edit(tables: Shape) -> None:
        some = _all(tables, kind, start)
        assert some
        for one in some:
            change(one)

    return shape(RULESET, edit)


def _without(wanted: Callable[[Shape], bool]) -> Edit:
    def edit(tables: Shape) -> None:
        kept = [one for one in tables["nftables"] if not wanted(one)]
        assert len(kept) < len(tables["nftables"])
        tables["nftables"] = kept

    return shape(RULESET, edit)


def _is_rule(start: str, words: str) -> Callable[[Shape], bool]:
    def wanted(one: Shape) -> bool:
        rule = one.get("rule", {"chain": "", "family": ""})
        return (
            rule["family"] == "ip" and rule["chain"].startswith(start) and words in json.dumps(rule)
        )

    return wanted


def _no_element(name: str, words: str, family: str = "ip") -> Edit:
    def edit(tables: Shape) -> None:
        for kind in ("set", "map"):
            for one in _all(tables, kind, name, family):
                kept = [each for each in one["elem"] if words not in json.dumps(each)]
                assert len(kept) == len(one["elem"]) - 1
                one["elem"] = kept

    return shape(RULESET, edit)


def _leads(name: str, words: str, verdict: Shape) -> Edit:
    def change(one: Shape) -> None:
        element = next(each for each in one["elem"] if words in json.dumps(each))
        element[1] = verdict

    return _each("map", name, change)


def _more(*new: Shape) -> Edit:
    return shape(RULESET, lambda tables: tables["nftables"].extend(new))


def _lost(owner: str, of: str, words: str, family: str = "ip") -> Damage:
    return found(
        f"no {words} in {of}",
        "nftables",
        Told(MISSING, owner, words.split('"')[1]),
        _no_element(of, words, family),
    )


def _base(name: str, **now: object) -> Damage:
    return found(
        f"{name} with {now}",
        "nftables",
        Told(WRONG, "proxy", name),
        _each("chain", name, lambda one: one.update(now)),
    )


def _unhooked(chain: Shape) -> None:
    for word in ("type", "hook", "prio", "policy"):
        del chain[word]


def _other_mark(rule: Shape) -> None:
    if "mangle" in rule["expr"][0]:
        rule["expr"][0]["mangle"]["value"]["|"][1] = 0x8000


def _one_range(rule: Shape) -> None:
    del rule["expr"][0]["match"]["right"]["set"][1]


def _swapped(tables: Shape) -> None:
    rows = tables["nftables"]
    at = next(at for at, one in enumerate(rows) if _is_rule("external-MHYZ6ZT4", "")(one))
    rows[at : at + 2] = [rows[at + 1], rows[at]]


def _mixed(tables: Shape) -> None:
    chance = random.Random(3)
    for one in tables["nftables"]:
        for thing in one.values():
            if isinstance(thing.get("elem"), list):
                chance.shuffle(thing["elem"])
    kinds = ("metainfo", "table", "set", "map", "chain", "rule")
    by_kind = {kind: [one for one in tables["nftables"] if kind in one] for kind in kinds}
    for kind in ("set", "chain"):
        chance.shuffle(by_kind[kind])
    tables["nftables"] = [one for kind in kinds for one in by_kind[kind]]


def _handles(tables: Shape) -> None:
    for number, one in enumerate(tables["nftables"]):
        for thing in one.values():
            if "handle" in thing:
                thing["handle"] = 9000 - number


def _other_nft(tables: Shape) -> None:
    """As nft 1.1 prints it."""
    tables["nftables"][0]["metainfo"]["version"] = "1.1.3"
    for one in _all(tables, "set", "affinity-"):
        one["flags"] = ["dynamic", "timeout"]


TCP_RESET = [{"reject": {"type": "tcp reset"}}]
LIMIT = {"limit": {"rate": 10, "burst": 5, "per": "second"}}
COUNTER = {"counter": {"packets": 3, "bytes": 180}}
OTHERS = (
    {"table": {"family": "inet", "name": "firewalld", "handle": 40}},
    {"chain": {"family": "inet", "table": "firewalld", "name": "services", "handle": 1}},
    {"rule": {"family": "inet", "table": "firewalld", "chain": "services", "handle": 2,
              "expr": [{"drop": None}]}},
    {"table": {"family": "ip", "name": "nat", "handle": 41}},
    {"chain": {"family": "ip", "table": "nat", "name": "POSTROUTING", "handle": 1, "type": "nat",
               "hook": "postrouting", "prio": 100, "policy": "accept"}},
    {"rule": {"family": "ip", "table": "nat", "chain": "POSTROUTING", "handle": 2,
              "expr": [{"xt": {"type": "match", "name": "comment"}}, COUNTER, {"xt": None}]}},
    {"flowtable": {"family": "inet", "name": "f", "table": "firewalld", "handle": 3,
                   "hook": "ingress", "prio": 0, "dev": "eth0"}},
    {"ct helper": {"family": "inet", "name": "h", "table": "firewalld", "handle": 9,
                   "type": "ftp", "protocol": "tcp", "l3proto": "ip"}},
)  # fmt: skip
SAME_NAME = (
    {"table": {"family": "inet", "name": "kube-proxy", "handle": 90}},
    {"chain": {"family": "inet", "table": "kube-proxy", "name": "nat-prerouting", "handle": 1,
               "type": "nat", "hook": "prerouting", "prio": -100, "policy": "accept"}},
    {"rule": {"family": "inet", "table": "kube-proxy", "chain": "nat-prerouting", "handle": 2,
              "expr": [{"drop": None}]}},
)  # fmt: skip
ALIEN = {"chain": {"family": "ip", "table": "kube-proxy", "name": "mine", "handle": 998,
                   "type": "filter", "hook": "input", "prio": 0, "policy": "drop"}}  # fmt: skip
DROP = {"rule": {"family": "ip", "table": "kube-proxy", "chain": "services", "handle": 999,
                 "expr": [{"drop": None}]}}  # fmt: skip


def _drop_first(tables: Shape) -> None:
    rows = tables["nftables"]
    rows.insert(next(at for at, one in enumerate(rows) if _is_rule("services", "")(one)), DROP)


ELEMENTS = (
    _lost("g01", "service-ips", '["10.96.1.1", "tcp", 80]'),
    _lost("g13", "service-ips", '["fd00:96::113", "tcp", 80]', "ip6"),
    _lost("g01", "cluster-ips", '"10.96.1.1"'),
    _lost("g01", "hairpin-connections", '["10.200.0.11"'),
    _lost("proxy", "nodeport-ips", '"172.31.0.2"'),
    _lost("g06", "firewall-ips", '["192.0.2.6", "tcp", 80]'),
    _lost("g10", "no-endpoint-services", '["10.96.1.10", "tcp", 80]'),
    found(
        "no node port",
        "nftables",
        Told(MISSING, "g04", "30084"),
        _no_element("service-nodeports", '["tcp", 30084]'),
    ),
    found(
        "an element that leads elsewhere",
        "nftables",
        Told(WRONG, "g01", "10.96.1.1"),
        _leads("service-ips", '["10.96.1.1", "tcp", 80]', {"goto": {"target": G03}}),
    ),
    found(
        "refused, not dropped",
        "nftables",
        Told(WRONG, "g15", "10.96.1.15"),
        _leads("no-endpoint-services", '"10.96.1.15"', {"goto": {"target": "reject-chain"}}),
    ),
    found(
        "an element too much",
        "nftables",
        Told(EXTRA, "", "10.96.1.200"),
        _each(
            "map",
            "service-ips",
            lambda one: one["elem"].append(
                [{"concat": ["10.96.1.200", "tcp", 80]}, {"goto": {"target": G01}}]
            ),
        ),
    ),
    found(
        "node ports at another address",
        "nftables",
        Told(EXTRA, "proxy", "172.31.1.2"),
        _each("set", "nodeport-ips", lambda one: one["elem"].append("172.31.1.2")),
    ),
    found(
        "affinity for a minute",
        "nftables",
        Told(WRONG, "g07", "affinity-5O2REYNX"),
        _each("set", "affinity-5O2REYNX", lambda one: one.update(timeout=60)),
    ),
    found(
        "ClusterIPs that go by themselves",
        "nftables",
        Told(WRONG, "proxy", "cluster-ips"),
        _each("set", "cluster-ips", lambda one: one.update(flags=["timeout"], timeout=60)),
    ),
    clean(
        "clients that are remembered",
        "nftables",
        _each(
            "set",
            "affinity-5O2REYNX",
            lambda one: one.update(elem=[{"elem": {"val": "10.200.0.5", "expires": 7100}}]),
        ),
    ),
)

CHAINS = (
    _base("nat-prerouting", prio=0),
    _base("filter-forward", hook="input"),
    _base("filter-forward", policy="drop"),
    found(
        "a base chain without its hook",
        "nftables",
        Told(WRONG, "proxy", "nat-output"),
        _each("chain", "nat-output", _unhooked),
    ),
    found(
        "no chain",
        "nftables",
        Told(MISSING, "g01", G01),
        _without(_is_rule(G01, "")),
        _without(lambda one: one.get("chain", {}).get("name") == G01),
    ),
    found("DNAT to elsewhere", "nftables", Told(WRONG, "g01", G01),
          swap(RULESET, '["10.200.0.11",8080]', '["10.200.0.99",8080]')),
    found("one endpoint only", "nftables", Told(WRONG, "g01", G01),
          swap(RULESET, MAPPED,
               '"mod":1,"offset":0}},"data":{"set":[[0,{"concat":["10.200.0.11",8080]}]]')),
    found("one endpoint twice", "nftables", Told(WRONG, "g01", G01),
          swap(RULESET, CHOICE, CHOICE.replace("10.200.1.11", "10.200.0.11"))),
    found("a choice of nothing", "nftables", Told(WRONG, "g01", G01),
          swap(RULESET, MAPPED, MAPPED.replace('"mod":2', '"mod":3'))),
    found("nobody is local", "nftables", Told(EITHER, "g08", "external-UN3KKZ7E"),
          _without(_is_rule("external-UN3KKZ7E", '[{"goto": {"target": "local-'))),
    found("clients are forgotten", "nftables", Told(EITHER, "g07", "endpoint-5O2REYNX"),
          _without(_is_rule("endpoint-5O2REYNX", '"update"'))),
    found("another mark", "nftables", Told(WRONG, "g04", "external-MHYZ6ZT4"),
          _each("rule", "external-MHYZ6ZT4", _other_mark)),
    found("marked is not masqueraded", "nftables", Told(EITHER, "proxy", "masquerading"),
          _without(_is_rule("masquerading", "mangle"))),
    found("nobody reaches itself", "nftables", Told(EITHER, "proxy", "masquerading"),
          _without(_is_rule("masquerading", "hairpin"))),
    found("one source range less", "nftables", Told(WRONG, "g06", "firewall-RBXDINDB"),
          _each("rule", "firewall-RBXDINDB", _one_range)),
    found("two rules in the wrong order", "nftables", Told(WRONG, "g04", "external-MHYZ6ZT4"),
          shape(RULESET, _swapped)),
    found("a drop before all Services", "nftables", Told((*EXTRA, *WRONG), "proxy", "services"),
          shape(RULESET, _drop_first)),
    found("refused by TCP alone", "nftables", Told(WRONG, "proxy", "reject-chain"),
          _each("rule", "reject-chain", lambda one: one.update(expr=TCP_RESET))),
    found("a limit before a rule", "nftables", Told(WRONG, "g04", "external-MHYZ6ZT4"),
          _each("rule", "external-MHYZ6ZT4", lambda one: one["expr"].insert(0, LIMIT))),
    found("somebody's base chain", "nftables", Told(EXTRA, "proxy", "mine"), _more(ALIEN)),
    clean("endpoints in another order", "nftables",
          swap(RULESET, CHOICE,
               '[[0,{"concat":["10.200.1.11",8080]}],[1,{"concat":["10.200.0.11",8080]}]]')),
    clean("counters in rules", "nftables",
          _each("rule", "services", lambda one: one["expr"].insert(-1, COUNTER))),
)  # fmt: skip

TABLES = (
    found("no IPv6 table", "nftables", Told(MISSING, "proxy", "ip6 kube-proxy"),
          _without(lambda one: any(each.get("family") == "ip6" for each in one.values()))),
    found("an empty ruleset", "nftables", Told(MISSING, "proxy", "ip kube-proxy"),
          written(RULESET, '{"nftables": [{"metainfo": {"version": "1.0.6"}}]}')),
    found("a dormant table", "nftables", Told(WRONG, "proxy", "ip kube-proxy"),
          swap(RULESET, OURS, f'{OURS},"flags":"dormant"')),
    found("a dormant table, as nft 1.1 says it", "nftables", Told(WRONG, "proxy", "ip kube-proxy"),
          swap(RULESET, OURS, f'{OURS},"flags":["dormant"]')),
    found("a table of that name in another family", "nftables",
          Told(EXTRA, "proxy", "inet kube-proxy"), _more(*SAME_NAME)),
    clean("others' tables", "nftables", _more(*OTHERS)),
    clean("other comments", "nftables", sub(RULESET, '"comment":"[^"]*"', '"comment":"x"', 0)),
    clean("no comments", "nftables", sub(RULESET, '"comment":"[^"]*",', "", 0)),
    clean("another order", "nftables", shape(RULESET, _mixed)),
    clean("other handles, one line", "nftables", shape(RULESET, _handles)),
    clean("another nft", "nftables", shape(RULESET, _other_nft)),
    unjudged("cut off", "nftables", text(RULESET, lambda old: old[:30000])),
    unjudged("no ruleset", "nftables", absent(RULESET)),
    unjudged("an error instead", "nftables",
             written(RULESET, "Error: Operation not permitted (you must be root)\n")),
)  # fmt: skip

DAMAGES = (*ELEMENTS, *CHAINS, *TABLES)
