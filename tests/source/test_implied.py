"""The cluster's DNS, which is there unless somebody brings another."""

from __future__ import annotations

import io

from hairpin.model.snapshot import Snapshot
from hairpin.source.cluster import admit, apply
from hairpin.source.implied import DNS_POD, DNS_SERVICE
from hairpin.source.manifests import load
from hairpin.source.settings import LAB

NODE = """
apiVersion: v1
kind: Node
metadata: {name: node, annotations: {hairpin.dev/service-cidr: 172.23.0.0/28}}
spec: {podCIDR: 172.22.0.0/29}
"""


def read(*texts: str) -> Snapshot:
    return Snapshot(load(["-"], stdin=io.StringIO("---\n".join(texts))).objects)


def service(name: str, spec: str, namespace: str = "default") -> str:
    meta = f"{{name: {name}, namespace: {namespace}}}"
    whole = f"{{ports: [{{port: 80}}], {spec}}}"
    return f"apiVersion: v1\nkind: Service\nmetadata: {meta}\nspec: {whole}\n"


def pod(name: str, extra: str = "") -> str:
    meta = f"{{name: {name}, annotations: {{{extra}}}}}"
    return f"apiVersion: v1\nkind: Pod\nmetadata: {meta}\nspec: {{containers: [{{name: c}}]}}\n"


def dns(snapshot: Snapshot) -> tuple[str | None, str | None]:
    """The addresses of the Service and of the Pod."""
    found, server = snapshot.services.get(DNS_SERVICE), snapshot.pods.get(DNS_POD)
    return (
        str(found.virtual_ips[0]) if found else None,
        str(server.status.pod_ip) if server else None,
    )


def test_it_has_the_tenth_address_and_the_last() -> None:
    assert dns(admit(read(NODE), settings=LAB)) == ("172.23.0.10", "172.22.0.6")
    assert dns(admit(read(NODE))) == (None, None)


def test_admitting_it_again_changes_nothing() -> None:
    once = admit(read(NODE, pod("a")), settings=LAB)
    assert admit(once, settings=LAB) == once
    assert admit(once, once, settings=LAB) == once


def test_what_people_ask_for_goes_first() -> None:
    before = admit(read(NODE), settings=LAB)
    after = apply(
        before,
        read(service("web", "clusterIP: 172.23.0.10"), pod("a", "hairpin.dev/ip: 172.22.0.6")),
        LAB,
    )
    assert dns(after) == ("172.23.0.2", "172.22.0.5")
    full = apply(before, read(*(pod(name) for name in "abcde")), LAB)
    assert dns(full) == ("172.23.0.10", None)
    assert str(full.pods["default", "e"].status.pod_ip) == "172.22.0.6"


def test_services_without_a_wish_leave_the_tenth_alone() -> None:
    snapshot = admit(read(NODE, *(service(f"s{n}", "") for n in range(12))), settings=LAB)
    assert dns(snapshot)[0] == "172.23.0.10"
    full = admit(read(NODE, *(service(f"s{n}", "") for n in range(11))), settings=LAB)
    assert len(full.services) == 12


def test_ones_own_takes_its_place_and_its_address() -> None:
    before = admit(read(NODE), settings=LAB)
    own = service("kube-dns", "selector: {k8s-app: kube-dns}", "kube-system")
    after = apply(before, read(own), LAB)
    assert dns(after) == ("172.23.0.10", "172.22.0.6")
    assert not after.services[DNS_SERVICE].metadata.annotations
    other = apply(before, read(own.replace("k8s-app: kube-dns", "a: b")), LAB)
    assert dns(other) == ("172.23.0.10", None)
