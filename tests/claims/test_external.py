"""``check --proxy external``: a lab with nodes that nobody serves, or somebody by hand."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.cli.command import Hairpin

pytestmark = [pytest.mark.guest, pytest.mark.timeout(120)]

CLAIMS = ("clusterip.endpoints-by-hand", "change.endpoints")


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hairpin]:
    hairpin = Hairpin(tmp_path_factory.mktemp("run"))
    hairpin.ok("up", "--proxy", "none")
    try:
        yield hairpin
    finally:
        hairpin("down")


@contextmanager
def served_by_hand(hairpin: Hairpin) -> Iterator[None]:
    """Runs what ``diff -o shell`` prints on the node, again and again."""
    over = threading.Event()

    def serve() -> None:
        while not over.wait(0.1):
            script = hairpin("diff", "--node", "node", "-o", "shell").out
            if script:
                hairpin("exec", "node/node", "--", "sh", stdin=script)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def check(hairpin: Hairpin) -> tuple[int, dict[str, str]]:
    ran = hairpin("check", "--proxy", "external", "-o", "json", *CLAIMS)
    told = json.loads(ran.out)
    return ran.code, {claim["id"]: claim["result"] for claim in told["claims"]}


def test_without_any_proxy_claims_fail_and_say_what_they_saw(bare: Hairpin) -> None:
    ran = bare("check", "--proxy", "external", CLAIMS[0])
    assert ran.code == 1
    assert "expected answered by" in ran.out and "timeout" in ran.out
    assert "1 failed" in ran.out.splitlines()[-1]


def test_claims_hold_where_somebody_else_has_programmed_the_nodes(bare: Hairpin) -> None:
    with served_by_hand(bare):
        code, results = check(bare)
    assert set(results.values()) == {"held"}
    assert code == 0
