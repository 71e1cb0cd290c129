"""What the real 1.36 API server answered, read again; and kube-proxy 1.36's own requests."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from urllib.parse import parse_qsl, urlsplit

import pytest

from hairpin.model.metadata import Key
from hairpin.source.api.client import ApiError, Client
from hairpin.source.api.follow import Follower, read_once
from hairpin.source.api.kubeconfig import Access
from hairpin.source.api.objects import Decoding, KubeThing, Resource, resources
from hairpin.source.api.recent import Recent
from tests.api_server.replay import RECORDED, Replay, body_of, exchange_of

BY_KIND = {one.kind: one for one in resources("node1")}
LISTS = sorted(
    path.stem
    for path in (RECORDED / "list").glob("*.json")
    if json.loads(path.read_bytes()).get("kind") in ("ServiceList", "EndpointSliceList", "NodeList")
)
WATCHES = sorted(
    f"{path.parent.name}/{path.stem}"
    for folder in ("watch", "restart")
    for path in (RECORDED / folder).glob("*.ndjson")
)


def resource_of(name: str) -> Resource:
    path = exchange_of(name)[0].split()[1]
    for one in BY_KIND.values():
        if f"/{one.path.rpartition('/')[2]}" in path.partition("?")[0]:
            return one
    raise AssertionError(path)


def things(name: str) -> dict[Key, KubeThing | None]:
    page = Decoding(resource_of(name)).page(body_of(name))
    assert not page.problems
    return {one.key: one.thing for one in page.items}


@pytest.mark.parametrize("name", LISTS)
def test_every_list_is_read(name: str) -> None:
    raw = json.loads(body_of(f"list/{name}"))
    found = things(f"list/{name}")
    assert len(found) == len(raw["items"]) and None not in found.values()


def test_pages_make_the_list() -> None:
    whole = things("list/services")
    parts: dict[Key, KubeThing | None] = {}
    for number in range(1, 5):
        parts |= things(f"list/services-page{number}")
    assert parts == whole and len(whole) > 9


@pytest.mark.parametrize("name", WATCHES)
def test_every_watch_is_read(name: str) -> None:
    decoding = Decoding(resource_of(name))
    raws = [json.loads(line) for line in body_of(name).splitlines()]
    events = [decoding.event(line) for line in body_of(name).splitlines()]
    words = {"ADDED": "put", "MODIFIED": "put", "DELETED": "gone", "BOOKMARK": "bookmark"}
    for raw, event in zip(raws, events, strict=True):
        assert event.verb == words.get(raw["type"], "error") and not event.problems
        if event.verb == "error":
            assert event.code == 410 and "too old resource version" in event.text
            continue
        assert event.version == raw["object"]["metadata"]["resourceVersion"]
        if event.item is not None:
            meta = raw["object"]["metadata"]
            assert event.item.key == (meta.get("namespace", ""), meta["name"])
            assert (event.item.thing is None) == (event.verb == "gone")


def test_changes_since_a_list_are_all_news() -> None:
    """And the same again, or an older one, is not."""
    recent = Recent()
    decoding = Decoding(BY_KIND["Service"])
    for line in body_of("watch/services-initial-events").splitlines():
        event = decoding.event(line)
        if event.item is not None:
            assert recent.is_news(event.item, gone=event.verb == "gone")
            assert not recent.is_news(event.item, gone=False)


ERRORS = sorted(path.stem for path in (RECORDED / "errors").glob("[45]*.http"))


@pytest.mark.parametrize("name", ERRORS)
def test_every_error_is_said(name: str) -> None:
    _, status, headers = exchange_of(f"errors/{name}")
    replay = Replay([f"errors/{name}"] * 2)  # a 401 is asked again
    try:
        with pytest.raises(ApiError) as found:
            Client(Access(server=replay.url, where="test")).get("/api/v1/services", {})
    finally:
        replay.close()
    assert found.value.code == status
    body = body_of(f"errors/{name}")
    words = json.loads(body)["message"] if body.startswith(b"{") else body.decode().strip()
    assert words[:60] in str(found.value)
    asked = [line.split(": ")[1] for line in headers if line.lower().startswith("retry-after")]
    assert found.value.wait == (float(asked[0]) if asked else 0.0)


def _queries(text: str, resource: Resource, *, first: bool) -> list[dict[str, str]]:
    """What kube-proxy asked of one resource, without its choice of a time."""
    found = []
    for uri in re.findall(r'verb="WATCH" URI="([^"]+)"', text):
        parts = urlsplit(uri)
        query = dict(parse_qsl(parts.query))
        if parts.path == resource.path and ("resourceVersion" not in query) == first:
            assert 300 <= int(query.pop("timeoutSeconds")) <= 600
            query.pop("timeout")
            found.append(query)
    return found


def test_the_requests_are_kube_proxys() -> None:
    text = (RECORDED / "watch" / "kube-proxy-requests.txt").read_text()
    replay = Replay(["watch/services-kube-proxy-1.36"], hold=True)
    follower = Follower(Client(Access(server=replay.url, where="test")), "node1", lambda text: None)
    follower.start()
    _until(lambda: len(replay.requests) >= 3)
    follower.stop()
    replay.close()
    for resource in BY_KIND.values():
        (asked,) = [one for one in replay.requests if one.startswith(resource.path)]
        query = dict(parse_qsl(urlsplit(asked).query))
        assert 300 <= int(query.pop("timeoutSeconds")) <= 600
        assert query == _queries(text, resource, first=True)[0]


def test_read_once_takes_pages() -> None:
    names = ["list/services-kube-proxy-1.36", "list/endpointslices", "list/nodes-one-by-field"]
    replay = Replay(names)
    snapshot, problems = read_once(Client(Access(server=replay.url, where="test")), "node1")
    replay.close()
    assert not problems
    assert snapshot.services == things(names[0]) and snapshot.endpointslices == things(names[1])
    assert list(snapshot.nodes) == [("", "node1")]
    assert [dict(parse_qsl(urlsplit(one).query))["limit"] for one in replay.requests] == ["500"] * 3


def _until(so: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not so():
        assert time.monotonic() < end
        time.sleep(0.01)
