"""Every mistake gets a line that says what and where, and a second one for a known remedy."""

from __future__ import annotations

import io
from textwrap import dedent

import pytest

from hairpin.model.errors import ManifestError
from hairpin.source.cluster import admit
from hairpin.source.manifests import load

NODE = """\
# The seed's node.

apiVersion: v1
kind: Node
metadata: {name: node, annotations: {hairpin.dev/service-cidr: 172.23.0.0/16}}
spec: {podCIDR: 172.22.0.0/24}
"""


def node(name: str = "node") -> str:
    return f"apiVersion: v1\nkind: Node\nmetadata: {{name: {name}, annotations: {{}}}}\n"


def pod(name: str = "foo", spec: str = "containers: [{name: c}]", ip: str = "") -> str:
    note = f", annotations: {{hairpin.dev/ip: {ip}}}" if ip else ""
    return f"apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}{note}}}\nspec: {{{spec}}}\n"


def service(spec: str, name: str = "web") -> str:
    return f"apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n"


def deployment(replicas: object, pods: str = "containers: [{name: c}]", app: str = "web") -> str:
    return dedent(f"""\
        apiVersion: apps/v1
        kind: Deployment
        metadata: {{name: web}}
        spec:
          replicas: {replicas}
          selector: {{matchLabels: {{app: web}}}}
          template: {{metadata: {{labels: {{app: {app}}}}}, spec: {{{pods}}}}}
        """)


def piece(endpoints: str, rest: str = "addressType: IPv4") -> str:
    return (
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: web-1}\n"
        f"{rest}\nendpoints: {endpoints}\n"
    )


def probe(text: str) -> str:
    return pod(spec=f"containers: [{{name: c, readinessProbe: {{{text}}}}}]")


def bomb() -> str:
    """Nine to the power of nine texts in a few hundred bytes."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    for level in range(1, 9):
        lines.append(f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]")
    return "\n".join(lines)


ONE_PORT = "ports: [{port: 80}]"

TEXT: dict[str, tuple[str | bytes, str]] = {
    "empty": ("", "stdin: holds no Kubernetes object"),
    "only comments": ("# nothing\n---\n---\n", "stdin: holds no Kubernetes object"),
    "no YAML": ("a: [1", "stdin:2:1: not YAML: did not find expected ',' or ']'"),
    "colon": ("a: b: c", "stdin:1:5: not YAML: mapping values are not allowed in this context"),
    "tab": (
        "a:\n\tb: 1",
        "stdin:2:1: not YAML: found character that cannot start any token",
    ),
    "undefined alias": ("a: *b", "stdin:1:4: not YAML: found undefined alias"),
    "NUL": ("a: \0", "stdin:1:4: not YAML: character #x0000 is not allowed"),
    "latin-1": (
        b"a: 1\nb: caf\xe9\n",
        "stdin:2:7: not UTF-8 text: byte 0xe9\n  save the file as UTF-8",
    ),
    "UTF-16": (
        "a: 1".encode("utf-16"),
        "stdin:1:1: not UTF-8 text: byte 0xff\n  save the file as UTF-8",
    ),
    "deep flow": ("[" * 100_000, "stdin:1:100: not YAML: more than 100 levels deep"),
    "deep block": ("- " * 100_000, "stdin:1:199: not YAML: more than 100 levels deep"),
    "deep JSON": ('{"a":' * 100_000, "stdin:1: more than 100 levels deep"),
    "deep JSON, closed": (
        '{"a":' * 100_000 + "1" + "}" * 100_000,
        "stdin:1: more than 100 levels deep",
    ),
    "alias bomb": (bomb(), "stdin:1:5: aliases make too much of this"),
    "alias to itself": ("&a [*a]", "stdin:1:1: aliases make too much of this"),
    "long text, often": (
        f"a: &a {'x' * 100_000}\nb: [{', '.join(['*a'] * 1000)}]",
        "stdin:1:4: aliases make too much of this",
    ),
    "key twice": (
        "apiVersion: v1\nkind: Pod\nkind: Service\n",
        'stdin:3:1: "kind" is there twice in this mapping',
    ),
    "JSON key twice": (
        '{"kind": "Pod", "apiVersion": "v1", "kind": "Pod"}',
        'stdin:1: "kind" is there twice in a mapping',
    ),
    "JSON NaN": ('{"kind": NaN}', "stdin:1: not JSON: NaN"),
    "JSON surrogate": ('{"kind": "\\ud800"}', "stdin:1: not JSON: half of a \\u surrogate pair"),
    "leading zero": (
        service("ports: [{port: 0800}]"),
        "stdin:4:23: 0800 may be octal or decimal\n"
        "  write the number without the zero in front, or quote it if it is text",
    ),
    "on as a key": (
        "on: 1",
        'stdin:1:1: the key on means true in YAML\n  write "on"',
    ),
    "a mapping as a key": ("? {a: 1}\n: 2", "stdin:1:3: a key has to be text"),
    "a tag": (
        "!!python/object:os.system {}",
        "stdin:1:1: the tag !!python/object:os.system means nothing here",
    ),
    "merge of text": ("<<: text", "stdin:1:5: << takes a mapping or a list of mappings"),
    "text": ("hello", 'stdin: expected a Kubernetes object, got the text "hello"'),
    "list": ("- a\n- b", "stdin: expected a Kubernetes object, got a list"),
    "items no list": (
        "apiVersion: v1\nkind: List\nitems: 5",
        "stdin: List: items: expected a list",
    ),
}

KIND: dict[str, tuple[str, str]] = {
    "no kind": ("apiVersion: v1", "stdin: kind: is missing"),
    "no apiVersion": ("kind: Pod", "stdin: apiVersion: is missing"),
    "kind a number": ("apiVersion: v1\nkind: 5", "stdin: kind: expected text"),
    "kind misspelt": (
        "apiVersion: v1\nkind: service",
        'stdin: kind: v1 has no "service"\n  did you mean Service?',
    ),
    "kind unknown": (
        "apiVersion: apps/v1\nkind: Xyz",
        'stdin: kind: apps/v1 has no "Xyz"\n'
        "  hairpin reads Node, Pod, Service, Namespace, Deployment, EndpointSlice",
    ),
    "apiVersion of old": (
        "apiVersion: extensions/v1beta1\nkind: Deployment\nmetadata: {name: web}",
        'stdin: Deployment default/web: apiVersion: expected apps/v1, got "extensions/v1beta1"',
    ),
    "in a List": (
        "apiVersion: v1\nkind: List\nitems: [{apiVersion: v2, kind: Node}]",
        'stdin items[0]: Node: apiVersion: expected v1, got "v2"',
    ),
    "twice": (
        f"{pod()}---\n{pod()}",
        "stdin:6: Pod default/foo: is already in stdin:1",
    ),
    "twice, namespace said once": (
        f"{pod()}---\n{pod().replace('name: foo', 'name: foo, namespace: default')}",
        "stdin:6: Pod default/foo: is already in stdin:1",
    ),
}

FIELD: dict[str, tuple[str, str]] = {
    "port 70000": (
        service("ports: [{port: 70000}]"),
        "stdin: Service default/web: spec.ports[0].port: 70000 is not a port (1 to 65535)",
    ),
    "port 0": (
        service("ports: [{port: 0}]"),
        "stdin: Service default/web: spec.ports[0].port: 0 is not a port (1 to 65535)",
    ),
    "targetPort 0": (
        service("ports: [{port: 80, targetPort: 0}]"),
        "stdin: Service default/web: spec.ports[0].targetPort: 0 is not a port (1 to 65535)",
    ),
    "port of 5000 digits": (
        "{" + f'"apiVersion": "v1", "kind": "Service", "metadata": {{"name": "web"}}, '
        f'"spec": {{"ports": [{{"port": {"9" * 5000}}}]}}' + "}",
        "stdin: Service default/web: spec.ports[0].port: "
        "expected a whole number, got the number 1e+300",
    ),
    "port a text": (
        service('ports: [{port: "80"}]'),
        'stdin: Service default/web: spec.ports[0].port: expected a whole number, got the text "80"'
        "\n  write it without quotes: 80",
    ),
    "port missing": (
        service("ports: [{name: http}]"),
        "stdin: Service default/web: spec.ports[0].port: is missing",
    ),
    "ports missing": (
        service("selector: {a: b}"),
        "stdin: Service default/web: spec.ports: is missing\n"
        "  only headless Services may do without",
    ),
    "ports a mapping": (
        service("ports: {port: 80}"),
        "stdin: Service default/web: spec.ports: expected a list, got a mapping",
    ),
    "spec missing": (
        "apiVersion: v1\nkind: Service\nmetadata: {name: web}",
        "stdin: Service default/web: spec: is missing",
    ),
    "metadata missing": (
        "apiVersion: v1\nkind: Pod\nspec: {containers: [{name: c}]}",
        "stdin: Pod: metadata: is missing",
    ),
    "name missing": (
        "apiVersion: v1\nkind: Pod\nmetadata: {generateName: a-}\nspec: {containers: [{name: c}]}",
        "stdin: Pod: metadata.name: is missing",
    ),
    "label a number": (
        service("ports: [{port: 80}], selector: {app: web, version: 2}"),
        "stdin: Service default/web: spec.selector[version]: expected text, got the number 2\n"
        '  quote it: "2"',
    ),
    "label a truth value": (
        service("ports: [{port: 80}], selector: {app: yes}"),
        "stdin: Service default/web: spec.selector[app]: expected text, got true\n"
        "  quote it: YAML takes a plain yes, no, on, off, true or false for a truth value",
    ),
    "protocol in small letters": (
        service("ports: [{port: 80, protocol: tcp}]"),
        'stdin: Service default/web: spec.ports[0].protocol: "tcp" is not TCP, UDP or SCTP\n'
        "  write TCP",
    ),
    "type unknown": (
        service("type: Cluster, ports: [{port: 80}]"),
        'stdin: Service default/web: spec.type: "Cluster" is not '
        "ClusterIP, NodePort, LoadBalancer or ExternalName",
    ),
    "port twice": (
        service("ports: [{port: 80, name: a}, {port: 80, name: b}]"),
        'stdin: Service default/web: spec.ports[1]: "TCP 80" is already spec.ports[0]',
    ),
    "port name twice": (
        service("ports: [{port: 80, name: a}, {port: 81, name: a}]"),
        'stdin: Service default/web: spec.ports[1].name: "a" is already spec.ports[0].name',
    ),
    "port name missing": (
        service("ports: [{port: 80, name: a}, {port: 81}]"),
        "stdin: Service default/web: spec.ports[1].name: is missing\n"
        "  where there are several ports, name each",
    ),
    "targetPort quoted": (
        service('ports: [{port: 80, targetPort: "8080"}]'),
        'stdin: Service default/web: spec.ports[0].targetPort: "8080" is text, and no port\'s name'
        "\n  write it unquoted",
    ),
    "nodePort": (
        service("ports: [{port: 80, nodePort: 30000}]"),
        "stdin: Service default/web: spec.ports[0].nodePort: a Service of type ClusterIP has none",
    ),
    "clusterIP no IP": (
        service("clusterIP: web, ports: [{port: 80}]"),
        'stdin: Service default/web: spec.clusterIP: "web" is not an IP address',
    ),
    "clusterIP a number": (
        service("clusterIP: 5, ports: [{port: 80}]"),
        "stdin: Service default/web: spec.clusterIP: expected an IP address, got the number 5",
    ),
    "clusterIP and clusterIPs": (
        service("clusterIP: 10.96.0.5, clusterIPs: [10.96.0.6], ports: [{port: 80}]"),
        "stdin: Service default/web: spec.clusterIPs[0]: is not spec.clusterIP, 10.96.0.5",
    ),
    "ExternalName without one": (
        service("type: ExternalName"),
        "stdin: Service default/web: spec.externalName: is missing\n"
        "  a Service of type ExternalName needs it",
    ),
    "Service name": (
        service(ONE_PORT, name="web.1"),
        'stdin: Service default/web.1: metadata.name: "web.1" is not a DNS label '
        "(1 to 63 of a-z, 0-9 and -, no - at either end)",
    ),
    "Pod name": (
        pod("Foo_1"),
        'stdin: Pod default/Foo_1: metadata.name: "Foo_1" is not a DNS name '
        "(1 to 253 of a-z, 0-9, - and ., every part with a letter or digit at both ends)",
    ),
    "name for the terminal": (
        pod('"\\e[2J"'),
        'stdin: Pod default/\ufffd[2J: metadata.name: "\ufffd[2J" is not a DNS name '
        "(1 to 253 of a-z, 0-9, - and ., every part with a letter or digit at both ends)",
    ),
    "no containers": (
        pod(spec="containers: []"),
        "stdin: Pod default/foo: spec.containers: a Pod needs at least one container",
    ),
    "container twice": (
        pod(spec="containers: [{name: c}, {name: c}]"),
        'stdin: Pod default/foo: spec.containers[1].name: "c" is already spec.containers[0].name',
    ),
    "containerPort": (
        pod(spec="containers: [{name: c, ports: [{containerPort: 65536}]}]"),
        "stdin: Pod default/foo: spec.containers[0].ports[0].containerPort: "
        "65536 is not a port (1 to 65535)",
    ),
    "container port's name": (
        pod(spec="containers: [{name: c, ports: [{containerPort: 80, name: a-very-long-name}]}]"),
        "stdin: Pod default/foo: spec.containers[0].ports[0].name: "
        '"a-very-long-name" is not a port\'s name '
        "(1 to 15 of a-z, 0-9 and -, at least one letter, no - at either end or twice in a row)",
    ),
    "command no list": (
        pod(spec="containers: [{name: c, command: sleep 5}]"),
        "stdin: Pod default/foo: spec.containers[0].command: "
        'expected a list, got the text "sleep 5"',
    ),
    "probe of nothing": (
        probe("periodSeconds: 1"),
        "stdin: Pod default/foo: spec.containers[0].readinessProbe: "
        "needs one of exec, httpGet and tcpSocket, has 0",
    ),
    "probe of an unknown port": (
        probe("tcpSocket: {port: http}"),
        "stdin: Pod default/foo: spec.containers[0].readinessProbe.tcpSocket.port: "
        'the container has no port named "http"',
    ),
    "probe every 0 s": (
        probe("tcpSocket: {port: 1}, periodSeconds: 0"),
        "stdin: Pod default/foo: spec.containers[0].readinessProbe.periodSeconds: 0 is less than 1",
    ),
    "replicas": (
        deployment(-1),
        "stdin: Deployment default/web: spec.replicas: -1 is less than 0",
    ),
    "too many replicas": (
        deployment(10_001),
        "stdin: Deployment default/web: spec.replicas: 10001 is more than 10000",
    ),
    "selector without labels": (
        deployment(1, app="other"),
        "stdin: Deployment default/web: spec.selector.matchLabels[app]: "
        "the Pods of spec.template are not labelled app=web",
    ),
    "annotation misspelt": (
        pod(ip="172.22.0.9").replace("hairpin.dev/ip", "hairpin.dev/IP"),
        "stdin: Pod default/foo: metadata.annotations[hairpin.dev/IP]: means nothing on a Pod\n"
        "  hairpin knows hairpin.dev/ip there",
    ),
    "annotation no IP": (
        pod(ip="172.22.0"),
        "stdin: Pod default/foo: metadata.annotations[hairpin.dev/ip]: "
        '"172.22.0" is not an IP address',
    ),
    "annotation no network": (
        node().replace("{}", "{hairpin.dev/service-cidr: 10.0.0.1}"),
        "stdin: Node node: metadata.annotations[hairpin.dev/service-cidr]: "
        '"10.0.0.1" is not an IP network like 10.96.0.0/16',
    ),
    "podCIDR with host bits": (
        node() + "spec: {podCIDR: 172.22.0.1/24}",
        'stdin: Node node: spec.podCIDR: "172.22.0.1/24" has bits set after its prefix\n'
        "  write 172.22.0.0/24",
    ),
    "podCIDR without a prefix": (
        node() + "spec: {podCIDR: 172.22.0.0}",
        'stdin: Node node: spec.podCIDR: "172.22.0.0" has no prefix length\n  write 172.22.0.0/32',
    ),
    "endpoint of the other family": (
        piece("[{addresses: ['fd00::1']}]"),
        "stdin: EndpointSlice default/web-1: endpoints[0].addresses[0]: fd00::1 is not IPv4",
    ),
    "endpoint on loopback": (
        piece("[{addresses: [127.0.0.1]}]"),
        "stdin: EndpointSlice default/web-1: endpoints[0].addresses[0]: "
        "127.0.0.1 is a loopback address: no endpoint has that",
    ),
    "addressType missing": (
        piece("[]", rest=""),
        "stdin: EndpointSlice default/web-1: addressType: is missing",
    ),
    "addressType IPv5": (
        piece("[]", rest="addressType: IPv5"),
        'stdin: EndpointSlice default/web-1: addressType: "IPv5" is not IPv4 or IPv6',
    ),
}

CLUSTER: dict[str, tuple[str, str]] = {
    "Pod IP outside": (
        f"{NODE}---\n{pod(ip='10.0.0.5')}",
        "stdin:8: Pod default/foo: metadata.annotations[hairpin.dev/ip]: "
        "10.0.0.5 is outside of the podCIDR of Node node, 172.22.0.0/24\n"
        "  Pods of Node node can have 172.22.0.2 to 172.22.0.254",
    ),
    "Pod IP the bridge's": (
        f"{NODE}---\n{pod(ip='172.22.0.1')}",
        "stdin:8: Pod default/foo: metadata.annotations[hairpin.dev/ip]: "
        "172.22.0.1 is already the address of Node node itself\n"
        "  Pods of Node node can have 172.22.0.2 to 172.22.0.254",
    ),
    "Pod IP the network's": (
        f"{NODE}---\n{pod(ip='172.22.0.0')}",
        "stdin:8: Pod default/foo: metadata.annotations[hairpin.dev/ip]: 172.22.0.0 is "
        "the address of the network itself, the podCIDR of Node node, 172.22.0.0/24\n"
        "  Pods of Node node can have 172.22.0.2 to 172.22.0.254",
    ),
    "Pod IP the broadcast address": (
        f"{NODE}---\n{pod(ip='172.22.0.255')}",
        "stdin:8: Pod default/foo: metadata.annotations[hairpin.dev/ip]: 172.22.0.255 is "
        "the broadcast address of the podCIDR of Node node, 172.22.0.0/24\n"
        "  Pods of Node node can have 172.22.0.2 to 172.22.0.254",
    ),
    "Pod IP twice": (
        f"{NODE}---\n{pod(ip='172.22.0.9')}---\n{pod('bar', ip='172.22.0.9')}",
        "stdin:8: Pod default/foo: metadata.annotations[hairpin.dev/ip]: "
        "172.22.0.9 is already the address of Pod default/bar\n"
        "  Pods of Node node can have 172.22.0.2 to 172.22.0.254",
    ),
    "Pod IP of all replicas": (
        deployment(2).replace(
            "labels: {app: web}}", "labels: {app: web}, annotations: {hairpin.dev/ip: 10.244.0.5}}"
        ),
        "Pod default/web-1: metadata.annotations[hairpin.dev/ip]: "
        "10.244.0.5 is already the address of Pod default/web-0\n"
        "  Pods of Node node can have 10.244.0.2 to 10.244.0.254",
    ),
    "podCIDR full": (
        f"{node()}spec: {{podCIDR: 10.1.0.0/30}}\n---\n{pod('a')}---\n{pod('b')}",
        "stdin:11: Pod default/b: there is no address left for it in 10.1.0.0/30\n"
        "  give Node node a larger spec.podCIDR",
    ),
    "podCIDR too small": (
        f"{node()}spec: {{podCIDR: 10.1.0.0/31}}",
        "stdin: Node node: spec.podCIDR: 10.1.0.0/31 has no room for the node's own address "
        "and a Pod\n  take a /30 or larger",
    ),
    "overlapping networks": (
        f"{node()}spec: {{podCIDR: 10.96.0.0/11}}",
        "stdin: Node node: spec.podCIDR: 10.96.0.0/11 overlaps with the service CIDR 10.96.0.0/16\n"
        "  choose networks that have no address in common",
    ),
    "Node unknown": (
        f"{NODE}---\n{pod(spec='nodeName: nod, containers: [{name: c}]')}",
        'stdin:8: Pod default/foo: spec.nodeName: there is no Node "nod"\n  there is node',
    ),
    "clusterIP outside": (
        f"{NODE}---\n{service('clusterIP: 10.96.0.9, ports: [{port: 80}]')}",
        "stdin:8: Service default/web: spec.clusterIP: "
        "10.96.0.9 is outside of the service CIDR 172.23.0.0/16\n"
        "  the Node's annotation hairpin.dev/service-cidr chooses another service CIDR",
    ),
    "clusterIP twice": (
        f"{service('clusterIP: 10.96.0.9, ports: [{port: 80}]')}---\n"
        f"{service('clusterIP: 10.96.0.9, ports: [{port: 80}]', name='api')}",
        "stdin:1: Service default/web: spec.clusterIP: "
        "10.96.0.9 is already the cluster IP of Service default/api\n"
        "  leave the field out to get a free one",
    ),
    "service CIDR full": (
        node().replace("{}", "{hairpin.dev/service-cidr: 10.1.0.0/30}")
        + f"---\n{service(ONE_PORT)}---\n{service(ONE_PORT, name='web2')}",
        "stdin:10: Service default/web2: spec.clusterIP: "
        "there is no address left for it in the service CIDR 10.1.0.0/30\n"
        "  the Node's annotation hairpin.dev/service-cidr chooses another service CIDR",
    ),
    "name of a Deployment's Pod": (
        f"{deployment(1)}---\n{pod('web-0')}",
        "stdin:9: Pod default/web-0: a Pod of Deployment default/web is to have this name\n"
        "  rename one of them",
    ),
}

TWO = "ipFamilyPolicy: PreferDualStack, ports: [{port: 80}]"
REMEDY = "  the Node's annotation hairpin.dev/service-cidr can name two: 10.96.0.0/16,fd00:96::/112"
NODE_PORT = "type: NodePort, ports: [{port: 80, nodePort: %d}]"

SERVICES: dict[str, tuple[str, str]] = {
    "IPv6 clusterIP": (
        service("clusterIP: 'fd00::1', ports: [{port: 80}]"),
        f"stdin: Service default/web: spec.clusterIP: there is no service CIDR for IPv6\n{REMEDY}",
    ),
    "IPv6 family": (
        service(f"ipFamilies: [IPv4, IPv6], {TWO}"),
        "stdin: Service default/web: spec.ipFamilies[1]: "
        f"there is no service CIDR for IPv6\n{REMEDY}",
    ),
    "dual stack": (
        service("ipFamilyPolicy: RequireDualStack, ports: [{port: 80}]"),
        "stdin: Service default/web: spec.ipFamilyPolicy: "
        f"there is one service CIDR, 10.96.0.0/16\n{REMEDY}",
    ),
    "two families, single stack": (
        service("ipFamilies: [IPv4, IPv6], ports: [{port: 80}]"),
        "stdin: Service default/web: spec.ipFamilies: two, where the policy is SingleStack\n"
        "  set spec.ipFamilyPolicy to PreferDualStack or RequireDualStack",
    ),
    "one family twice": (
        service(f"clusterIPs: [10.96.0.7, 10.96.0.8], {TWO}"),
        "stdin: Service default/web: spec.clusterIPs: more than one of a family",
    ),
    "family of another address": (
        service("clusterIP: 10.96.0.7, ipFamilies: [IPv6], ports: [{port: 80}]"),
        "stdin: Service default/web: spec.ipFamilies[0]: IPv6 is not that of 10.96.0.7",
    ),
    "node port out of range": (
        service(NODE_PORT % 8080),
        "stdin: Service default/web: spec.ports[0].nodePort: "
        "8080 is outside of the node ports, 30000 to 32767\n"
        "  leave the field out to get one of them",
    ),
    "node port of another": (
        f"{service(NODE_PORT % 30080)}---\n{service(NODE_PORT % 30080, name='api')}",
        "stdin:1: Service default/web: spec.ports[0].nodePort: "
        "30080 is already the node port of Service default/api\n"
        "  leave the field out to get a free one",
    ),
    "health check port of its own": (
        service(
            "type: LoadBalancer, externalTrafficPolicy: Local, healthCheckNodePort: 30080, "
            "ports: [{port: 80, nodePort: 30080}]"
        ),
        "stdin: Service default/web: spec.healthCheckNodePort: "
        "30080 is already another port of this Service\n"
        "  leave the field out to get a free one",
    ),
    "node port twice": (
        service(
            "type: NodePort, ports: [{name: a, port: 80, nodePort: 30080}, "
            "{name: b, port: 81, nodePort: 30080}]"
        ),
        "stdin: Service default/web: spec.ports[1].nodePort: "
        '"TCP 30080" is already spec.ports[0].nodePort',
    ),
    "health check without a balancer": (
        service("type: NodePort, healthCheckNodePort: 30080, ports: [{port: 80}]"),
        "stdin: Service default/web: spec.healthCheckNodePort: "
        "only with type LoadBalancer and externalTrafficPolicy Local",
    ),
    "external policy inside": (
        service("externalTrafficPolicy: Local, ports: [{port: 80}]"),
        "stdin: Service default/web: spec.externalTrafficPolicy: "
        "a Service of type ClusterIP without externalIPs has none",
    ),
    "external IP of a host": (
        service("externalIPs: [127.0.0.1], ports: [{port: 80}]"),
        "stdin: Service default/web: spec.externalIPs[0]: 127.0.0.1 is a loopback address",
    ),
    "balancers in the way of Pods": (
        node().replace("{}", "{hairpin.dev/load-balancer-cidr: 10.244.0.0/16}"),
        "stdin: Node node: metadata.annotations[hairpin.dev/load-balancer-cidr]: "
        "10.244.0.0/16 overlaps with 10.244.0.0/24\n"
        "  choose networks that have no address in common",
    ),
    "service CIDRs of one family": (
        node().replace("{}", "{hairpin.dev/service-cidr: '10.1.0.0/16,10.2.0.0/16'}"),
        "stdin: Node node: metadata.annotations[hairpin.dev/service-cidr]: "
        '"10.1.0.0/16,10.2.0.0/16" is not an IP network like 10.96.0.0/16\n'
        "  two are written 10.96.0.0/16,fd00:96::/112",
    ),
}

CASES = {**TEXT, **KIND, **FIELD, **CLUSTER, **SERVICES}


@pytest.mark.parametrize(("text", "expected"), CASES.values(), ids=CASES.keys())
def test_bad_input(text: str | bytes, expected: str) -> None:
    data = text if isinstance(text, bytes) else text.encode()
    with pytest.raises(ManifestError) as caught:
        loaded = load(["-"], stdin=io.TextIOWrapper(io.BytesIO(data)))
        admit(loaded.objects, where=loaded.where)
    assert str(caught.value) == expected
    assert len(expected.splitlines()) <= 2


def test_no_case_is_written_twice() -> None:
    assert len(CASES) == len(TEXT) + len(KIND) + len(FIELD) + len(CLUSTER) + len(SERVICES)
