"""An open connection without packets: how long the node remembers it.

IPVS forgets a TCP connection after 15 minutes (``ipvsadm -l --timeout``: 900 s), connection
tracking after days.  A claim cannot wait for that: the third node's IPVS is told to forget sooner,
the other modes show what their kernel would do.
"""

from __future__ import annotations

import re
import time

from hairpin.claims import judge
from hairpin.claims.base import Text
from hairpin.claims.objects import cluster_ip, pod, web
from hairpin.claims.promises import (
    Answered,
    Apply,
    Difference,
    Do,
    Finding,
    From,
    Promise,
    Try,
    Unanswered,
)
from hairpin.claims.scene import Scene

_N3 = From("node", "n3")
_CLIENT = pod("n3-a")
_SHORT = 2  # seconds, instead of IPVS' 900
_IDLE = 4.0  # seconds; the kernel's timers are late by up to one
_DAY = 86_400
_CONNTRACK = "/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_established"
_FORGOTTEN = Difference(
    expect=Unanswered(how=("refused", "error", "timeout")),
    reason=Text(
        "IPVS forgets a connection that was idle for 15 minutes (ipvs.tcpTimeout), and what comes "
        "on it then is answered with a reset",
        "IPVS 会忘记空闲 15 分钟的连接 (ipvs.tcpTimeout), 之后的报文得到重置",
    ),
    source="k/k#84041, cloudnativelabs/kube-router#521; ipvsadm(8), --set",
    topic="idle-connections",
)


def _kept(scene: Scene) -> int:
    """Seconds that the node keeps an open connection without packets."""
    if not scene.differs:
        return int(scene.run(_N3, "cat", _CONNTRACK))
    found = re.search(r"(\d+) \d+ \d+\s*$", scene.run(_N3, "ipvsadm", "-l", "--timeout"))
    return int(found[1]) if found else 0


def _idle(scene: Scene) -> Finding:
    """A connection is opened, nothing is sent for a while, then something is."""
    kept = _kept(scene)
    ipvs = scene.differs
    if ipvs:
        scene.run(_N3, "ipvsadm", "--set", str(_SHORT), "0", "0")
    try:
        number = scene.hold(_CLIENT, cluster_ip())
        time.sleep(_IDLE)
        seen = scene.ask(number)
    finally:
        if ipvs:
            scene.run(_N3, "ipvsadm", "--set", str(kept), "0", "0")
    ended = seen.outcome != "answered"
    return Finding(
        what=f"{_IDLE:.0f} s without a packet" + (f", of which IPVS allows {_SHORT}" * ipvs),
        held=(ended and kept < _DAY) if ipvs else (not ended and kept >= _DAY),
        expected="ended; unchanged, IPVS keeps it for less than a day"
        if ipvs
        else "answered; kept for a day or more",
        seen=f"{judge.sight([seen])}; kept for {kept} s",
    )


_OPEN = Try(client=_CLIENT, to=cluster_ip(), expect=Answered(by=("n1-a",)), times=8)

CLAIMS = (
    Promise(
        alone=True,
        id="services.conntrack.idle",
        says=Text(
            "an open connection may be idle for a day",
            "已打开的连接可以空闲一天",
        ),
        source="docs: kube-proxy, conntrack.tcpEstablishedTimeout (24 h)",
        needs=frozenset({"nodes"}),
        steps=(Apply(web("n1-a")), _OPEN, Do(_idle, {"ipvs": _FORGOTTEN})),
    ),
)
