"""A node's proxy that is killed and started anew, while Services are used.

What it served goes on without it; what it knew is lost, and must be read back from the kernel.
"""

from __future__ import annotations

from hairpin.claims import judge
from hairpin.claims.base import Text
from hairpin.claims.objects import (
    BOTH,
    CLIENT,
    backends,
    cluster_ip,
    web,
)
from hairpin.claims.promises import Answered, Apply, Do, Finding, Need, Promise, Try
from hairpin.claims.scene import Scene
from hairpin.claims.services_change import connecting
from hairpin.claims.services_proxy import delete_server

_NEEDS: frozenset[Need] = frozenset({"restart"})
_A, _B = Answered(by=("n1-a",)), Answered(by=("n2-a",))
_E2E = "e2e Services: should work after restarting kube-proxy"


def _restart(scene: Scene) -> None:
    scene.lab.call("restart-proxy", node=scene.cast.name("n1"))


def _under_load(scene: Scene) -> Finding:
    number = scene.hold(CLIENT, cluster_ip())
    constant = scene.constantly(Try(client=CLIENT, to=cluster_ip(), expect=Answered()), lanes=4)
    try:
        for _ in range(3):
            _restart(scene)
    finally:
        seen = constant.result()
    finding = connecting("while the proxy is restarted, three times", seen)
    last = scene.ask(number)
    return Finding(
        what=finding.what,
        held=finding.held and judge.answer_of(last) is not None,
        expected="0 that fail, and the open connection answered",
        seen=f"{finding.seen}; the open one {judge.sight([last])}",
    )


def _draining(scene: Scene) -> Finding:
    """An endpoint was removed, one connection to it is open, and the proxy forgets of it."""
    number = scene.hold(CLIENT, cluster_ip())
    scene.apply(backends("n2-a"))
    _restart(scene)
    new = scene.finding(Try(client=CLIENT, to=cluster_ip(), times=4, expect=_B))
    seen = scene.ask(number)
    answer = judge.answer_of(seen)
    return Finding(
        what="a removed endpoint with an open connection",
        held=answer is not None and answer.pod == "n1-a" and new.held,
        expected="the open connection answered by n1-a, new ones by n2-a",
        seen=f"{judge.sight([seen])}; new ones {new.seen}",
    )


def _back_again(scene: Scene) -> Finding:
    """An endpoint with weight 0 from before the restart is wanted again."""
    number = scene.hold(CLIENT, cluster_ip())
    scene.apply(backends("n2-a"))
    _restart(scene)
    scene.apply(backends("n1-a", "n2-a"))
    new = scene.finding(Try(client=CLIENT, to=cluster_ip(), expect=BOTH))
    scene.ask(number)
    return new


def _puts_right(scene: Scene) -> Finding:
    """Somebody deletes what leads to the endpoints, as if a proxy had died before it made it."""
    delete_server(scene)
    _restart(scene)
    return scene.finding(Try(client=CLIENT, to=cluster_ip(), expect=_A, label="after a restart"))


def _affinity(scene: Scene) -> Finding:
    """The same Pod before and after."""
    one = Try(client=CLIENT, to=cluster_ip(), times=4, expect=Answered(same=True))
    before = scene.connect([one])[0]
    _restart(scene)
    after = scene.connect([one])[0]
    who = [judge.answer_of(each) for each in before + after]
    names = {None if answer is None else answer.pod for answer in who}
    return Finding(
        what="4 connections before and 4 after",
        held=None not in names and len(names) == 1,
        expected="all answered by one Pod",
        seen=judge.sight(before + after),
    )


CLAIMS = (
    Promise(
        alone=True,
        id="services.proxy.restart",
        says=Text(
            "connections go on while a node's proxy is restarted, and open ones live on",
            "节点的代理重启期间连接照常, 已打开的连接不受影响",
        ),
        source=_E2E,
        needs=_NEEDS,
        steps=(Apply(web("n1-a", "n2-a")), Do(_under_load)),
    ),
    Promise(
        alone=True,
        id="services.proxy.restart-draining",
        says=Text(
            "a removed endpoint keeps its open connections over a restart of the proxy",
            "被移除的端点在代理重启后仍保留已打开的连接",
        ),
        source="k/k#92019, Test_GracefulDeleteRS",
        needs=_NEEDS,
        steps=(Apply(web("n1-a")), Do(_draining)),
    ),
    Promise(
        alone=True,
        id="services.proxy.restart-back-again",
        says=Text(
            "an endpoint that was on its way out before the restart serves again when it is back",
            "重启前正在移除的端点恢复后重新提供服务",
        ),
        source="k/k#92019, Test_syncEndpoint_updateWeightsOnRestart",
        needs=_NEEDS,
        steps=(Apply(web("n1-a", "n2-a")), Do(_back_again)),
    ),
    Promise(
        id="services.proxy.restart-puts-right",
        says=Text(
            "a proxy that starts puts right at once what is not as it should be",
            "代理启动时立即修正不符之处",
        ),
        source=_E2E,
        needs=_NEEDS,
        steps=(Apply(web("n1-a")), Do(_puts_right)),
    ),
    Promise(
        id="services.proxy.restart-affinity",
        says=Text(
            "session affinity outlives a restart of the proxy",
            "会话保持不受代理重启影响",
        ),
        source=f"{_E2E}; e2e Services: should have session affinity work for service with type "
        "clusterIP",
        needs=_NEEDS,
        steps=(Apply(web("n1-a", "n2-a", sessionAffinity="ClientIP")), Do(_affinity)),
    ),
)
