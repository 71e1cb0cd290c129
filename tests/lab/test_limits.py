"""What a lab cannot show yet is refused in words, and nothing else is."""

from __future__ import annotations

import io

import pytest

from hairpin.lab import limits
from hairpin.model.errors import ManifestError
from hairpin.model.snapshot import Snapshot
from hairpin.source.cluster import admit
from hairpin.source.manifests import load
from hairpin.source.settings import LAB

NODE = "apiVersion: v1\nkind: Node\nmetadata: {name: %s}\n"
SERVICE = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {%s, ports: [{port: 80}]}\n"
POD = "{containers: [{name: c}], hostNetwork: true}"
REMEDY = "  a lab has one Node and IPv4 for now"
DEPLOYMENT = f"""
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web}}
spec:
  selector: {{matchLabels: {{app: web}}}}
  template: {{metadata: {{labels: {{app: web}}}}, spec: {POD}}}
"""

REFUSED = {
    "two Nodes": (
        NODE % "b" + "---\n" + NODE % "a",
        "stdin:1: Node b: a second Node, beside Node a, is not supported in a lab yet",
    ),
    "IPv6 clusterIP": (
        SERVICE % "clusterIP: 'fd00::1'",
        "stdin: Service default/web: spec.clusterIP: IPv6 is not supported in a lab yet",
    ),
    "dual stack": (
        SERVICE % "ipFamilyPolicy: RequireDualStack",
        "stdin: Service default/web: spec.ipFamilyPolicy: "
        "RequireDualStack is not supported in a lab yet",
    ),
    "IPv6 from outside": (
        SERVICE % "externalIPs: ['2001:db8::1']",
        "stdin: Service default/web: spec.externalIPs: IPv6 is not supported in a lab yet",
    ),
    "IPv6 podCIDR": (
        NODE % "a" + "spec: {podCIDR: 'fd00::/64'}",
        "stdin: Node a: spec.podCIDR: IPv6 is not supported in a lab yet",
    ),
    "IPv6 EndpointSlice": (
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n"
        "metadata: {name: web-1}\naddressType: IPv6\nendpoints: []\n",
        "stdin: EndpointSlice default/web-1: addressType: IPv6 is not supported in a lab yet",
    ),
    "host network": (
        f"apiVersion: v1\nkind: Pod\nmetadata: {{name: foo}}\nspec: {POD}\n",
        "stdin: Pod default/foo: spec.hostNetwork: "
        "the node's network is not supported in a lab yet for Pods",
    ),
    "host network of a Deployment": (
        DEPLOYMENT,
        "stdin: Deployment default/web: spec.template.spec.hostNetwork: "
        "the node's network is not supported in a lab yet for Pods",
    ),
}


@pytest.mark.parametrize(("text", "expected"), REFUSED.values(), ids=REFUSED.keys())
def test_what_a_lab_cannot_show(text: str, expected: str) -> None:
    loaded = load(["-"], stdin=io.StringIO(text))
    with pytest.raises(ManifestError) as caught:
        limits.check(Snapshot(loaded.objects), loaded.where)
    assert str(caught.value) == f"{expected}\n{REMEDY}"


@pytest.mark.parametrize(
    "spec",
    [
        "type: NodePort",
        "type: LoadBalancer, loadBalancerSourceRanges: [10.0.0.0/8]",
        "externalIPs: [198.51.100.1]",
        "sessionAffinity: ClientIP",
        "ipFamilyPolicy: PreferDualStack",
        "clusterIP: None",
    ],
)
def test_what_is_made_of_a_service_is_taken_again(spec: str) -> None:
    admitted = admit(load(["-"], stdin=io.StringIO(SERVICE % spec)).objects, settings=LAB)
    limits.check(admitted)
    assert admit(admitted, settings=LAB) == admitted
