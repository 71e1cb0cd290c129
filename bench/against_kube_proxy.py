"""What hairpin plans against what a real kube-proxy programs, line by line.

    python bench/against_kube_proxy.py --kube-proxy BINARY [--modes iptables,nftables]
                                       [--seeds 5] [--first 1] [--services 200] [--rounds 3]

Each seed is a cluster of Services that differ in everything that planning looks at, and a
configuration (``tests/plan/crowd.py``).  kube-proxy gets them from the tests' API server, in a
network namespace that looks like a node; then endpoints come, go and terminate and Services are
deleted, round by round.  Each time what the tool prints is held against ``hairpin plan -o
restore``, and ``hairpin audit`` must find nothing.  Not compared: counters, canaries, the order in
chains where kube-proxy has none, and nftables chains that it has emptied and not yet deleted.
Exit code 1 for a difference or a finding.  Needs root, and kube-proxy 1.36.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.api_server.server import Server

_ROOT = Path(__file__).parents[1]
_CHILD = "--child"
_NODE, _ADDRESSES = "node1", ("192.0.2.1/24", "fd31::1/64")
_CIDRS = ["10.96.0.0/12", "fd00:96::/108"]
_DISPATCH = ("KUBE-SERVICES", "KUBE-EXTERNAL-SERVICES", "KUBE-NODEPORTS", "KUBE-PROXY-FIREWALL")
_TOOLS = {"nftables": ("nft list ruleset",), "iptables": ("iptables-save", "ip6tables-save")}
_PATIENCE = 60.0  # seconds for a sync
Rules = dict[tuple[str, ...], list[str]]


def main() -> int:
    parser = argparse.ArgumentParser(description="Plans against a real kube-proxy.")
    parser.add_argument("--kube-proxy", help="the binary, of 1.36")
    parser.add_argument("--modes", default="iptables,nftables", help="which modes")
    parser.add_argument("--seeds", type=int, default=5, help="how many clusters (5)")
    parser.add_argument("--first", type=int, default=1, help="the first one's number (1)")
    parser.add_argument("--services", type=int, default=200, help="in each, 250 at most (200)")
    parser.add_argument("--rounds", type=int, default=3, help="of changes, after the start (3)")
    parser.add_argument(_CHILD, dest="child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        sys.path[:0] = [str(_ROOT), str(_ROOT / "src")]
        mode, seed = arguments.child.split(":")
        return Comparison(arguments, mode, int(seed)).run()
    if not arguments.kube_proxy:
        print("no --kube-proxy: nothing to compare with")
        return 0
    failed = 0
    for seed in range(arguments.first, arguments.first + arguments.seeds):
        for mode in arguments.modes.split(","):
            words = ["unshare", "-n", sys.executable, *sys.argv, _CHILD, f"{mode}:{seed}"]
            failed += bool(subprocess.run(words, check=False).returncode)
    print(f"{failed} of {arguments.seeds * len(arguments.modes.split(','))} runs differ")
    return int(failed > 0)


class Comparison:
    """One cluster and one configuration, in a network namespace that is this process's own."""

    def __init__(self, arguments: argparse.Namespace, mode: str, seed: int) -> None:
        from tests.api_server.server import Server

        self._arguments = arguments
        self._mode = mode
        self._seed = seed
        self._dice = random.Random(seed)
        self._objects = _cluster(seed, arguments.services)
        self._folder = Path(tempfile.mkdtemp(prefix="hairpin-bench-"))
        _furnish()
        self._server = Server().start()
        for one in self._objects:
            self._server.store.put(one)

    def run(self) -> int:
        config = _configuration(self._seed, self._mode)
        self._write("config", config)
        self._write("kube-proxy", {**config, "clientConnection": _client(self._server, self)})
        log = (self._folder / "log").open("w")
        words = [self._arguments.kube_proxy, "--config", str(self._folder / "kube-proxy"), "-v=2"]
        proxy = subprocess.Popen(words, stdout=log, stderr=log)
        try:
            found = [self._round(number) for number in range(1 + self._arguments.rounds)]
        finally:
            proxy.terminate()
            proxy.wait()
        if any(found):
            print(f"its files are in {self._folder}")
            return 1
        shutil.rmtree(self._folder)
        return 0

    def path(self, name: str, text: str) -> str:
        """The path of a file with that text."""
        (self._folder / name).write_text(text)
        return str(self._folder / name)

    def _write(self, name: str, value: Any) -> None:
        self.path(name, json.dumps(value))

    def _round(self, number: int) -> bool:
        if number:
            self._change()
        self._write("objects", {"apiVersion": "v1", "kind": "List", "items": self._objects})
        words = ["-f", str(self._folder / "objects"), "--config", str(self._folder / "config")]
        planned = _hairpin("plan", *words, "-o", "restore")
        assert planned.returncode == 0, planned.stderr
        ours, theirs = _read(planned.stdout), self._settled(_read(planned.stdout))
        audited = _hairpin("audit", *words)
        print(
            f"{self._mode}, seed {self._seed}, round {number}: {sum(map(len, theirs.values()))} "
            f"lines, {sum(ours.get(key) != theirs.get(key) for key in ours | theirs)} differences, "
            f"audit {audited.returncode}",
            flush=True,
        )
        for key in sorted(ours | theirs):
            _tell(key, ours.get(key, []), theirs.get(key, []))
        if audited.returncode:
            print(audited.stdout[:2000], audited.stderr[:500])
        return ours != theirs or audited.returncode != 0

    def _settled(self, ours: Rules) -> Rules:
        """What the kernel holds once it is as planned, or long after it stopped to change."""
        end, same = time.monotonic() + _PATIENCE, 0
        last: Rules = {}
        while time.monotonic() < end and same < 6:
            time.sleep(1.5)
            texts = (subprocess.run(tool.split(), capture_output=True, text=True, check=True).stdout
                     for tool in _TOOLS[self._mode])  # fmt: skip
            heads = (f"### {tool}\n" for tool in _TOOLS[self._mode])
            now = _read("".join(f"{head}{text}" for head, text in zip(heads, texts, strict=True)))
            if now == ours:
                return now
            same = same + 1 if now == last else 0
            last = now
        return last

    def _change(self) -> None:
        """Some Services and slices go, and of others endpoints terminate, go or move."""
        store, dice = self._server.store, self._dice
        those = [one for one in self._objects if one["kind"] in ("Service", "EndpointSlice")]
        for one in dice.sample(those, len(those) // 10):
            self._objects.remove(one)
            store.delete(one["kind"], "default", one["metadata"]["name"])
        slices = [one for one in self._objects if one.get("endpoints")]
        for one in dice.sample(slices, len(slices) // 3):
            for each in one["endpoints"]:
                if dice.random() < 0.4:
                    each["conditions"] = dice.choice(_CONDITIONS)
                each["nodeName"] = dice.choice((_NODE, "node2", each.get("nodeName") or "node2"))
            if dice.random() < 0.3:
                one["endpoints"].pop()
            store.put(one)


_CONDITIONS: tuple[dict[str, bool], ...] = (
    {"ready": True},
    {"ready": False},
    {"ready": False, "serving": True, "terminating": True},
)


def _cluster(seed: int, count: int) -> list[dict[str, Any]]:
    """As an API server gives it: what it would fill in is filled in."""
    from hairpin.model.decode import to_api
    from tests.plan.crowd import crowd

    snapshot = crowd(seed, count)
    found = [to_api(one) for one in snapshot.services.values()]
    found += [to_api(one) for one in snapshot.endpointslices.values()]
    for one in found:
        ports = one["spec"]["ports"] if one["kind"] == "Service" else one["ports"]
        for port in ports:
            port.setdefault("protocol", "TCP")
            port.setdefault("name", "")
        one["metadata"] |= {"uid": one["metadata"]["name"], "resourceVersion": "1"}  # as stored
        if one["kind"] == "Service":
            one["spec"].setdefault("type", "ClusterIP")
            one["spec"].setdefault("sessionAffinity", "None")
    addresses = [{"type": "InternalIP", "address": one.split("/")[0]} for one in _ADDRESSES]
    node = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": _NODE, "labels": {"topology.kubernetes.io/zone": "z1"}},
        "spec": {"podCIDR": "10.244.0.0/24", "podCIDRs": ["10.244.0.0/24", "fd00:244::/64"]},
        "status": {"addresses": addresses},
    }
    cidr = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "ServiceCIDR",
        "metadata": {"name": "kubernetes"},
        "spec": {"cidrs": _CIDRS},
    }
    return [node, cidr, *found]


def _configuration(seed: int, mode: str) -> dict[str, Any]:
    """For both; it asks for no sysctl that is of the whole machine."""
    from hairpin.cli.agent_pages import configz
    from tests.plan.crowd import configuration

    said = json.loads(configz(configuration(seed, mode)))["kubeproxy.config.k8s.io"]
    said |= {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "hostnameOverride": _NODE,
        "conntrack": {
            "maxPerCore": 0,
            "min": 0,
            "tcpEstablishedTimeout": "0s",
            "tcpCloseWaitTimeout": "0s",
        },
    }
    for one in ("iptables", "nftables"):
        said[one] = {**said[one], "minSyncPeriod": "0s", "syncPeriod": "5s"}
    return dict(said)


def _client(server: Server, home: Comparison) -> dict[str, str]:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "clusters": [{"name": "k", "cluster": {"server": server.url}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
    }
    path = home.path("kubeconfig", json.dumps(config))
    return {"kubeconfig": path, "contentType": "application/json"}


def _furnish() -> None:
    """The links and addresses of a node."""
    commands = ["link set lo up", "link add eth0 type bridge", "link set eth0 up"]
    commands += [f"addr add {one} dev eth0" for one in _ADDRESSES]
    for one in (*commands, "route add default dev eth0"):
        more = ["nodad"] if "::" in one else []
        subprocess.run(["ip", *one.split(), *more], check=True)


def _hairpin(*words: str) -> subprocess.CompletedProcess[str]:
    code = f"import sys; sys.path[:0] = {sys.path!r}; from hairpin.cli.main import main; "
    command = [sys.executable, "-c", f"{code}sys.exit(main({list(words)!r}))"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _read(text: str) -> Rules:
    """Rules by tool, table and chain; lines of sets by set; sorted where there is no order."""
    found: Rules = {}
    tool = table = block = ""
    for raw in text.splitlines():
        line = re.sub(r"counter packets \d+ bytes \d+", "counter", raw)
        if line.startswith("### "):
            tool = line[4:]
        elif tool.startswith("nft"):
            if line.startswith("table "):
                table = block = line
            elif line[:2] == "\t" + line.strip()[:1] and line.endswith("{"):
                block = line.strip()
            stripped = line.strip().removeprefix("elements = { ").removesuffix(" }").rstrip(",")
            if stripped not in ("", "}"):
                found.setdefault((tool, table, block), []).append(stripped)
        elif line.startswith("*"):
            table = line
        elif line.startswith(":KUBE") and "CANARY" not in line:
            found.setdefault((tool, table, line[1:].split()[0]), [])
        elif line.startswith("-A"):
            found.setdefault((tool, table, line.split()[1]), []).append(line)
    kept = {key: lines for key, lines in found.items() if not _emptied(key[2], lines)}
    return {key: _arranged(key[2], lines) for key, lines in kept.items()}


def _emptied(block: str, lines: list[str]) -> bool:
    """A chain of nftables that only waits to be deleted."""
    return block.startswith("chain ") and lines == [block]


def _arranged(block: str, lines: list[str]) -> list[str]:
    if block.startswith(("set ", "map ", "table ")):
        return sorted(lines)
    if block not in _DISPATCH:
        return lines
    return sorted(lines, key=lambda one: (one.endswith("-j KUBE-NODEPORTS"), one))


def _tell(key: tuple[str, ...], ours: list[str], theirs: list[str]) -> None:
    if ours != theirs:
        print("  ", *key)
        for who, one, other in (("kube-proxy", theirs, ours), ("hairpin", ours, theirs)):
            for line in [line for line in one if line not in other][:5]:
                print(f"     {who}: {line}")


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # the server's threads do not end
