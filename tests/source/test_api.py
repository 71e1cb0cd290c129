"""Following a cluster over real HTTP, through everything that a server can do wrong."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hairpin.source.api.client import ApiError, Client
from hairpin.source.api.follow import KINDS, Follower, read_once
from hairpin.source.api.kubeconfig import Access
from hairpin.source.api.objects import KubeThing
from hairpin.source.api.reflector import Update
from tests.api_server.server import Server
from tests.source.api_objects import NODE, endpoints, node, service


class Followed:
    """What a Follower has told, put together."""

    def __init__(self, server: Server, **more: Any) -> None:
        self.said: list[str] = []
        access = Access(server=server.url, where="test", **more)
        self.follower = Follower(Client(access), NODE, self.said.append)
        self.things: dict[tuple[str, str, str], KubeThing] = {}
        self.whole: list[str] = []
        self.updates: list[Update] = []
        self.follower.start()

    def take(self, seconds: float = 0.02) -> None:
        for update in self.follower.wait(seconds):
            self.updates.append(update)
            if update.whole:
                self.whole.append(update.kind)
            for key, thing in update.objects:
                if thing is None:
                    self.things.pop((update.kind, *key), None)
                else:
                    self.things[(update.kind, *key)] = thing

    def until(self, so: Callable[[], bool], seconds: float = 20.0) -> None:
        end = time.monotonic() + seconds
        while not so():
            assert time.monotonic() < end, (self.said[-3:], sorted(self.things))
            self.take()

    def same_as(self, server: Server) -> bool:
        access = Access(server=server.url, where="test")
        snapshot, _ = read_once(Client(access), NODE)
        fresh = {(type(one).__name__, *one.key): one for one in snapshot}
        return self.things == fresh

    def names(self) -> set[str]:
        return {key[2] for key in self.things}


@pytest.fixture
def server() -> Iterator[Server]:
    one = Server().start()
    one.store.put(node())
    one.store.put(node("other"))
    for n in range(7):
        one.store.put(service(f"web-{n}", f"10.96.0.{n + 1}"))
        one.store.put(endpoints(f"web-{n}", f"10.244.0.{n + 1}"))
    yield one
    one.stop()


@pytest.fixture
def follow(server: Server) -> Iterator[Callable[..., Followed]]:
    made: list[Followed] = []

    def begin(**more: Any) -> Followed:
        made.append(Followed(server, **more))
        return made[-1]

    yield begin
    for one in made:
        one.follower.stop()


Follow = Callable[..., Followed]


def test_asks_as_kube_proxy_1_36_does(server: Server, follow: Follow) -> None:
    followed = follow()
    followed.until(lambda: set(followed.whole) == KINDS)
    asked = sorted(one.split("timeoutSeconds")[0] for one in server.requests)
    initial = "watch=true&allowWatchBookmarks=true&"
    assert asked == sorted(
        [
            "/api/v1/nodes?fieldSelector=metadata.name%3Dnode1&" + initial,
            "/api/v1/services?fieldSelector=spec.clusterIP%21%3DNone"
            "&labelSelector=%21service.kubernetes.io%2Fservice-proxy-name&" + initial,
            "/apis/discovery.k8s.io/v1/endpointslices"
            "?labelSelector=%21service.kubernetes.io%2Fheadless&" + initial,
        ]
    )
    ends = "&sendInitialEvents=true&resourceVersionMatch=NotOlderThan"
    assert all(one.endswith(ends) for one in server.requests)


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "listed"])
def test_follows_what_changes(server: Server, follow: Follow, streamed: bool) -> None:
    server.faults.streamed_lists = streamed
    followed = follow()
    followed.until(lambda: set(followed.whole) == KINDS)
    assert followed.same_as(server)
    assert ("Node", "", NODE) in followed.things and ("Node", "", "other") not in followed.things
    server.store.put(service("new"))
    server.store.put(endpoints("web-1", "10.244.9.9"))
    server.store.delete("Service", "default", "web-2")
    hidden = service("web-3", "10.96.0.4")
    hidden["metadata"]["labels"] = {"service.kubernetes.io/service-proxy-name": "another"}
    server.store.put(hidden)  # leaves the selector
    server.store.put(service("headless", "None"))
    followed.until(lambda: "new" in followed.names() and "web-3" not in followed.names())
    followed.until(lambda: followed.same_as(server))
    assert "headless" not in followed.names()
    assert not followed.said


def test_pages_are_put_together(server: Server, follow: Follow) -> None:
    server.faults.streamed_lists = False
    for n in range(1200):
        server.store.put(service(f"many-{n}", "10.96.7.7"))
    followed = follow()
    followed.until(lambda: set(followed.whole) == KINDS)
    snapshot, problems = read_once(Client(Access(server=server.url, where="test")), NODE)
    assert len(snapshot.services) == 1207 and not problems
    assert followed.same_as(server)
    assert sum("continue=" in one for one in server.requests) >= 2
    server.faults.expire_pages = True  # a list begun too long ago is begun anew
    again, _ = read_once(Client(Access(server=server.url, where="test")), NODE)
    assert again == snapshot


def test_a_server_that_ignores_what_it_is_asked(server: Server, follow: Follow) -> None:
    """Its first bookmark says nothing of an end: that is no reason to wait for minutes."""
    server.faults.ignores_streamed, server.faults.bookmarks = True, 0.2
    followed = follow()
    followed.until(lambda: set(followed.whole) == KINDS)
    assert followed.same_as(server)
    assert sum("limit=500" in one for one in server.requests) >= 3


def test_a_role_from_before_service_cidrs(server: Server) -> None:
    """It must not keep a node from being served."""
    server.faults.forbidden = "servicecidrs"
    said: list[str] = []
    client = Client(Access(server=server.url, where="test"))
    follower = Follower(client, NODE, said.append, cidrs=True)
    follower.start()
    whole: set[str] = set()
    end = time.monotonic() + 20
    while not whole >= follower.kinds and time.monotonic() < end:
        whole |= {one.kind for one in follower.wait(0.1) if one.whole}
    follower.stop()
    assert whole == {*KINDS, "ServiceCIDR"}
    assert len(said) == 3 and all("servicecidrs is forbidden" in one for one in said)


def test_no_event_is_lost_however_they_come(server: Server, follow: Follow) -> None:
    """The server itself: what happens while it looks must be told, or a soak finds phantoms."""
    followed = follow()
    followed.until(lambda: set(followed.whole) == KINDS)
    for n in range(400):
        server.store.put(endpoints(f"web-{n % 7}", f"10.244.{n // 250}.{n % 250 + 1}"))
    last = server.store.version
    seen: set[int] = set()

    def all_are_there() -> bool:
        seen.update(
            int(thing.metadata.resource_version)
            for update in followed.updates
            for _, thing in update.objects
            if thing is not None
        )
        return last in seen

    followed.until(all_are_there)
    assert set(range(last - 399, last + 1)) <= seen


def test_a_whole_list_tells_what_is_gone(server: Server, follow: Follow) -> None:
    followed = follow()
    followed.until(lambda: set(followed.whole) == KINDS)
    server.stop()
    server.store.delete("Service", "default", "web-1")
    server.store.put(service("new"))
    server.store.compact()
    followed.take(0.3)
    assert "web-1" in followed.names(), "a server that is away takes nothing"
    server.start()
    followed.until(lambda: followed.same_as(server))
    assert "web-1" not in followed.names() and "new" in followed.names()


def test_half_an_answer_is_none(server: Server, follow: Follow) -> None:
    server.faults.streamed_lists = False
    server.faults.truncate_lists = 3
    followed = follow()
    followed.until(lambda: set(followed.whole) == KINDS)
    assert all(len(one.objects) in (1, 7) for one in followed.updates if one.whole)
    assert followed.said and followed.same_as(server)
    server.faults.truncate_event = True
    server.store.put(service("new"))
    followed.until(lambda: "new" in followed.names())
    assert followed.same_as(server)


def test_old_and_repeated_events_change_nothing(server: Server, follow: Follow) -> None:
    server.faults.twice = server.faults.swapped = True
    followed = follow()
    followed.until(lambda: set(followed.whole) == KINDS)
    for n in range(40):
        server.store.put(endpoints("web-1", f"10.244.1.{n + 1}"))
        server.store.put(endpoints("web-2", f"10.244.2.{n + 1}"))
        if n % 8 == 3:
            server.store.delete("EndpointSlice", "default", "web-2-1")
    server.store.put(service("last"))
    followed.until(lambda: "last" in followed.names())
    followed.until(lambda: followed.same_as(server))


def test_watches_that_are_cut_and_versions_that_are_gone(server: Server, follow: Follow) -> None:
    server.faults.cut_watch_after = 0.3
    followed = follow()
    followed.until(lambda: set(followed.whole) == KINDS)
    for n in range(30):
        server.store.put(endpoints(f"web-{n % 7}", f"10.244.3.{n + 1}"))
        followed.take(0.05)
        if n == 15:
            server.store.compact()
            server.faults.gone_watches = 4
    server.faults.cut_watch_after = None
    server.store.put(service("last"))
    followed.until(lambda: "last" in followed.names(), 40)
    followed.until(lambda: followed.same_as(server))


def test_cuts_cost_no_list_and_a_storm_of_410_few(server: Server, follow: Follow) -> None:
    """HAIRPIN_LONG makes it a minute of each; then run it with -s for the figures."""
    seconds = 60.0 if os.environ.get("HAIRPIN_LONG") else 2.5
    followed = follow()
    followed.until(lambda: set(followed.whole) == KINDS)
    server.requests.clear()
    server.faults.cut_watch_after = 1.0 if seconds > 10 else 0.3
    changes = _change_for(seconds, server, followed)
    server.faults.cut_watch_after = None
    watches, lists = server.watches(), sum("sendInitial" in one for one in server.requests)
    print(f"cuts for {seconds} s: {changes} changes, {watches} watches, {lists} lists")
    assert lists == 0 and watches >= 3
    followed.until(lambda: followed.same_as(server))
    server.requests.clear()
    server.faults.gone_watches = 1_000_000
    server.faults.cut_watch_after = 0.3
    server.cut()
    changes = _change_for(seconds, server, followed)
    server.faults.gone_watches = 0
    server.faults.cut_watch_after = None
    lists = sum("sendInitial" in one for one in server.requests)
    print(f"410 for {seconds} s: {changes} changes, {lists} lists")
    assert 1 <= lists <= 3 * (seconds + 2), "each of the three kinds waits longer and longer"
    followed.until(lambda: followed.same_as(server), 60)


def _change_for(seconds: float, server: Server, followed: Followed) -> int:
    changes = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        changes += 1
        server.store.put(endpoints(f"web-{changes % 7}", f"10.244.4.{changes % 250 + 1}"))
        followed.take(0.03)
        time.sleep(0.01)  # else a fast machine makes more than any server keeps
    return changes


def test_one_bad_object_costs_itself(server: Server, follow: Follow) -> None:
    bad = service("bad")
    bad["spec"]["ports"][0]["port"] = 70000
    server.store.put(bad)
    empty = endpoints("web-0")
    empty["endpoints"] = empty["ports"] = None  # as the recordings have them
    server.store.put(empty)
    for streamed in (True, False):
        server.faults.streamed_lists = streamed
        followed = follow()
        followed.until(lambda one=followed: set(one.whole) == KINDS)  # type: ignore[misc]
        assert "bad" not in followed.names() and "web-0-1" in followed.names()
        problems = [line for update in followed.updates for line in update.problems]
        assert problems == [
            "Service default/bad: spec.ports[0].port: 70000 is not a port (1 to 65535)"
        ]
        assert followed.same_as(server)


def test_waits_as_it_is_told(server: Server, follow: Follow) -> None:
    server.faults.answer = (429, "Too many requests, please try again later.", {"Retry-After": "1"})
    followed = follow()
    time.sleep(0.9)
    assert len(server.requests) == 3
    server.faults.answer = None
    followed.until(lambda: set(followed.whole) == KINDS)
    assert "429" in followed.said[0] and "try again later" in followed.said[0]


def test_who_reads_once_waits_as_told(server: Server) -> None:
    client = Client(Access(server=server.url, where="test"))
    busy = (429, "Too many requests", {"Retry-After": "1"})
    server.faults.answer = busy
    threading.Timer(0.5, lambda: setattr(server.faults, "answer", None)).start()
    assert len(read_once(client, NODE)[0].services) == 7
    server.faults.answer = (429, "Too many requests", {"Retry-After": "600"})
    with pytest.raises(ApiError, match="429"):
        read_once(client, NODE)


def test_what_will_not_mend_itself_says_what_to_do(server: Server) -> None:
    client = Client(Access(server=server.url, where="test"))
    for code, said in ((401, "run out"), (403, "system:node-proxier")):
        server.faults.answer = (code, "no", {})
        with pytest.raises(ApiError, match=said):
            client.get("/version", {})


def test_what_an_error_says() -> None:
    with pytest.raises(ApiError, match="Connection refused"):
        Client(Access(server="http://127.0.0.1:9", where="test")).get("/version", {})
