"""The node agent, put together: configuration, cluster, kernel, servers, signals.

Not a verb: ``hairpin proxy`` runs it.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import time
from collections.abc import Collection, Mapping
from contextlib import suppress

import msgspec

from hairpin.cli.agent_log import AgentLog
from hairpin.cli.agent_pages import Pages, serve
from hairpin.cli.this_kernel import HERE
from hairpin.kernel import capabilities
from hairpin.kernel.apply import Failed, Kernel
from hairpin.kernel.iptables import Variant
from hairpin.kernel.netns import Home
from hairpin.lab.session import LabError
from hairpin.mode.base import mode_of, places
from hairpin.mode.wants import put_change
from hairpin.model.address import forget_unused
from hairpin.model.configuration import KubeProxyConfiguration, Mode
from hairpin.plan.local_traffic import health_check_addresses
from hairpin.plan.node import node_facts
from hairpin.proxy.agent import Agent, Hooks
from hairpin.proxy.health import Family, Health
from hairpin.proxy.metrics import Metrics
from hairpin.proxy.proxy import Proxy
from hairpin.proxy.rules import rules_wanted
from hairpin.proxy.server import Servers
from hairpin.proxy.service_health import ServiceHealth
from hairpin.source.api.client import Client
from hairpin.source.api.follow import Follower
from hairpin.source.api.kubeconfig import access
from hairpin.state.netfilter import ServiceChain
from hairpin.state.nftables import NftTable
from hairpin.state.sysctl import Sysctl

_MODES: tuple[Mode, ...] = ("ipvs", "nftables", "iptables")
_IPTABLES = ("iptables", "iptables-legacy")
_NEEDED: dict[Mode, tuple[str, ...]] = {
    "ipvs": ("ipvs", "dummy", "ipset", *_IPTABLES),
    "iptables": _IPTABLES,
    "nftables": ("nft-nat-ip",),
}
"""What is tried out in namespaces to throw away before anything is begun."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What is said on the command line and stands in no configuration.

    ``kept`` leaves the process all the rights that it was started with.  ``master`` is the API
    server, whatever the kubeconfig says; ``iptables`` insists on a variant; ``flags`` are those
    that were given, for /flagz.
    """

    kept: bool = False
    master: str = ""
    iptables: Variant | None = None
    flags: Mapping[str, str] = {}


def run(config: KubeProxyConfiguration, log: AgentLog, version: str, options: Options) -> int:
    """Runs until SIGTERM or SIGINT; gives the exit code.

    Raises ManifestError for a kubeconfig that is none, LabError, OSError.
    """
    node = config.hostname_override or socket.gethostname().lower()
    families = _families()
    mode: Mode = config.mode or "iptables"  # kube-proxy's default
    config = msgspec.structs.replace(config, mode=mode, hostname_override=node)
    metrics = Metrics(mode, families, version)
    client = Client(
        access(config.client_connection.kubeconfig or None, server=options.master),
        agent=f"hairpin/{version}",
        count=metrics.requested,
    )
    period = getattr(config, mode).sync_period
    health = Health(2 * period, families, clock=time.monotonic, now=time.time)
    _prefer_to_live(config.oom_score_adj, log)
    kernel = Kernel(legacy_iptables=_check_rights(mode), iptables=options.iptables)
    kernel.adopt(Home.current(HERE))
    if not options.kept:
        _give_rights_away(mode, log)
    # Threads begin here: what they may is what this one may.
    servers = Servers().start()
    feed = Follower(client, node, log.warning, cidrs=mode == "nftables")
    try:
        late = _another_serves(kernel, config)
        proxy = Proxy(kernel, HERE, config, node, report=log.warning, takes_over=late)
        agent = Agent(
            proxy,
            feed,
            node,
            health=health,
            metrics=metrics,
            ports=ServiceHealth(servers, lambda: health.healthy, log.warning),
            log=log,
            hooks=Hooks(
                first_sync=lambda: _first_sync(kernel, config, proxy, log),
                health_check_addresses=lambda facts: health_check_addresses(config, facts),
                count=lambda: _count(kernel, proxy, metrics),
                tidy=_tidy,
            ),
        )
        pages = Pages(config, health, metrics, flags=options.flags, version=version)
        serve(servers, config, pages, log)
        _obey_signals(agent)
        log.info("hairpin proxy runs", node=node, mode=mode, server=client.server, version=version)
        feed.start()
        agent.run()
        _notify("STOPPING=1")
        log.info("ended; the kernel's tables stay as they are")
    finally:
        feed.stop()
        servers.close()
        kernel.close()
    return 0


def prepare(config: KubeProxyConfiguration, log: AgentLog, iptables: Variant | None = None) -> int:
    """Does once what needs more rights than CAP_NET_ADMIN: settings, and the kernel's modules.

    As kube-proxy's --init-only.  Gives the exit code.  Raises LabError, OSError.
    """
    mode: Mode = config.mode or "iptables"
    config = msgspec.structs.replace(config, mode=mode)
    kernel = Kernel(legacy_iptables=_check_rights(mode), iptables=iptables)
    kernel.adopt(Home.current(HERE))
    try:
        wants = mode_of(kernel, HERE, config).desired(node_facts("", None, ()))
        wanted = [put_change(one) for one in wants if isinstance(one.object, Sysctl)]
        failed = kernel.apply(wanted)
    finally:
        kernel.close()
    for one in failed:
        log.warning("a setting could not be made", object=str(one))
    log.info("prepared", mode=mode, settings=len(wanted) - len(failed))
    return 1 if failed else 0


def _families() -> tuple[Family, ...]:
    """What the kernel can: IPv6 may be switched off."""
    return ("IPv4", "IPv6") if os.path.exists("/proc/net/if_inet6") else ("IPv4",)  # noqa: PTH110


def _prefer_to_live(score: int, log: AgentLog) -> None:
    """How soon the kernel ends this process when memory runs out: kube-proxy's is -999."""
    try:
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
            file.write(str(score))
    except OSError as error:
        log.info("oomScoreAdj could not be set", level=2, error=error.strerror)


def _check_rights(mode: Mode) -> bool:
    """Whether iptables can be had in its legacy variant alone.

    Raises LabError where this process or this kernel cannot do what the mode needs.
    """
    if not capabilities.held() >> capabilities.NET_ADMIN & 1:
        raise LabError(
            "the node's network cannot be changed: CAP_NET_ADMIN is missing",
            "run it as root, or give it that capability",
        )
    if not capabilities.held() >> capabilities.SYS_ADMIN & 1:
        return False  # trying things out needs namespaces to throw away
    from hairpin.kernel import probe

    needed = _NEEDED[mode]
    results = {one.name: one for one in probe.attempt(needed)}
    lacking = [one for one in results.values() if not one.able]
    either = [one for one in lacking if one.name.startswith("iptables")]
    if len(either) < len(_IPTABLES):  # one of the variants is enough
        lacking = [one for one in lacking if one not in either]
    if lacking:
        remedies = {row.name: row.remedy for row in probe.ABILITIES}
        said = ", ".join(f"{one.name} ({one.why})" for one in lacking)
        remedy = "; ".join(dict.fromkeys(remedies[one.name] for one in lacking))
        raise LabError(f"this kernel cannot do {mode} mode: it lacks {said}", remedy)
    return any(one.name == _IPTABLES[0] for one in either)


def _give_rights_away(mode: Mode, log: AgentLog) -> None:
    """Only what programs the network stays; iptables' legacy variant opens a raw socket."""
    needed = [capabilities.NET_ADMIN]
    if mode != "nftables" or _has_legacy_tables():
        needed.append(capabilities.NET_RAW)
    try:
        capabilities.keep_only(needed)
    except OSError as error:
        log.warning("rights that are not needed could not be given away", error=error.strerror)


def _has_legacy_tables() -> bool:
    """Whether another proxy may have left something there that is to be taken away."""
    for name in ("ip_tables_names", "ip6_tables_names"):
        with suppress(OSError), open(f"/proc/net/{name}", encoding="ascii") as file:
            if file.read().strip():
                return True
    return False


def _another_serves(kernel: Kernel, config: KubeProxyConfiguration) -> bool:
    """Whether rules of another mode send packets to endpoints, before IPVS could."""
    if config.mode != "ipvs":
        return False
    for other in _MODES[1:]:
        with suppress(OSError):
            mode = mode_of(kernel, HERE, msgspec.structs.replace(config, mode=other))
            if any(isinstance(one, ServiceChain | NftTable) for one in mode.observe()):
                return True
    return False


def _first_sync(
    kernel: Kernel, config: KubeProxyConfiguration, proxy: Proxy, log: AgentLog
) -> None:
    """All is served: tells systemd, and takes away what another mode left behind.

    After, not before: so there is no moment without either.
    """
    _notify("READY=1")
    taken = places([one.object for one in proxy.wanted()])
    others = [mode for mode in reversed(_MODES) if mode != config.mode]
    stay = [mode for mode in others if _take_away(kernel, config, mode, taken, log)]
    # What one mode's chains led to may go once another mode's are gone.
    for mode in stay:
        for one in _take_away(kernel, config, mode, taken, log)[:10]:
            why = f"{one.change.object}: {one.error}"
            log.warning("a leftover of another mode stays", mode=mode, object=why)
    gc.freeze()  # what there is now stays: collecting need not look at it


def _tidy() -> None:
    """A full collection also empties CPython's free lists, of which those of tuples alone grow to
    5 MB (2 000 of each length up to 20); by itself it comes nearly never, for an agent makes few
    objects that stay and no cycles."""
    forget_unused()
    gc.collect()


def _take_away(
    kernel: Kernel,
    config: KubeProxyConfiguration,
    mode: Mode,
    taken: Collection[str],
    log: AgentLog,
) -> list[Failed]:
    """Removes what a mode made, but not what ``taken`` names; gives what would not go."""
    try:
        other = mode_of(kernel, HERE, msgspec.structs.replace(config, mode=mode))
        tried, failed = other.clean_up(taken)
    except OSError as error:
        log.info("another mode's leftovers cannot be seen", level=2, mode=mode, error=str(error))
        return []
    if len(tried) > len(failed):
        gone = len(tried) - len(failed)
        log.info("leftovers of another mode are gone", mode=mode, objects=gone)
    return failed


def _count(kernel: Kernel, proxy: Proxy, metrics: Metrics) -> None:
    """What kube-proxy shows of iptables: rules of ours, and what its packet counters say."""
    if proxy.mode != "iptables":
        return
    metrics.rules(rules_wanted(one.object for one in proxy.wanted()))
    with suppress(OSError):  # a kernel without nfacct
        metrics.packets(kernel.packet_counters(HERE))


def _obey_signals(agent: Agent) -> None:
    def end(number: int, frame: object) -> None:
        del frame
        agent.end()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)


def _notify(state: str) -> None:
    """Tells systemd, where it asks for it: sd_notify(3)."""
    place = os.environ.get("NOTIFY_SOCKET", "")
    if not place:
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
        out.connect("\0" + place[1:] if place.startswith("@") else place)
        out.send(state.encode())
