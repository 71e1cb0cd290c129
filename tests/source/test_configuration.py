"""kube-proxy's configuration file and flags, and what is said about mistakes in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hairpin.model.configuration import (
    ConntrackConfiguration,
    KubeProxyConfiguration,
    Seconds,
    duration,
)
from hairpin.model.errors import ManifestError
from hairpin.source.configuration import FLAGS, load

HEAD = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n"
RECORDED = Path(__file__).parents[1] / "plan" / "kube-proxy-1.36" / "input"


class File:
    """Reads configurations from a text."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "kube-proxy.yaml"
        self.warnings: list[str] = []

    def load(
        self, text: str, flags: dict[str, str] | None = None, **rest: Any
    ) -> KubeProxyConfiguration:
        self.path.write_text(text)
        return load(str(self.path), flags, warnings=self.warnings, **rest)

    def refused(self, text: str, **rest: Any) -> str:
        """The error, without the file's name."""
        with pytest.raises(ManifestError) as caught:
            self.load(text, **rest)
        return str(caught.value).replace(f"{self.path}: ", "").replace(str(self.path), "")


@pytest.fixture
def file(tmp_path: Path) -> File:
    return File(tmp_path)


def test_an_empty_file_is_kube_proxys_defaults(file: File) -> None:
    config = file.load(HEAD)
    # A file without a mode is kube-proxy's default; without a file it is open.
    assert config == msgspec.structs.replace(load(None), mode="iptables")
    assert load(None).mode == ""
    assert file.warnings == []
    assert config.healthz_bind_address == "0.0.0.0:10256"
    assert config.metrics_bind_address == "127.0.0.1:10249"
    assert (config.iptables.masquerade_bit, config.oom_score_adj) == (14, -999)
    assert (config.ipvs.sync_period, config.ipvs.min_sync_period) == (Seconds(30), Seconds(0))
    assert config.conntrack == ConntrackConfiguration(max_per_core=32768, min=131072)


@pytest.mark.parametrize("mode", ["ipvs", "iptables", "nftables"])
def test_the_recorded_files(mode: str) -> None:
    warnings: list[str] = []
    config = load(str(RECORDED / f"kube-proxy-config.{mode}.yaml"), warnings=warnings)
    assert (config.mode, config.hostname_override) == (mode, "node1")
    assert config.cluster_cidr == "10.192.0.0/12,fd00:200::/56"
    assert config.conntrack.max_per_core == 0
    assert not warnings


def test_a_file_of_every_field(file: File) -> None:
    """As ``kube-proxy --write-config-to`` writes it: nothing of it is unknown."""
    config = file.load(
        HEAD
        + """
bindAddress: 0.0.0.0
bindAddressHardFail: false
clientConnection: {acceptContentTypes: "", burst: 0, contentType: "", kubeconfig: "", qps: 0}
clusterCIDR: ""
configSyncPeriod: 0s
conntrack:
  {maxPerCore: null, min: null, tcpBeLiberal: false, tcpCloseWaitTimeout: null,
   tcpEstablishedTimeout: null, udpStreamTimeout: 0s, udpTimeout: 0s}
detectLocal: {bridgeInterface: "", interfaceNamePrefix: ""}
detectLocalMode: ""
enableProfiling: false
featureGates: {}
healthzBindAddress: ""
hostnameOverride: ""
iptables:
  {localhostNodePorts: null, masqueradeAll: false, masqueradeBit: null, minSyncPeriod: 0s,
   syncPeriod: 0s}
ipvs:
  {excludeCIDRs: null, minSyncPeriod: 0s, scheduler: "", strictARP: false, syncPeriod: 0s,
   tcpFinTimeout: 0s, tcpTimeout: 0s, udpTimeout: 0s}
logging: {flushFrequency: 0, options: {json: {infoBufferSize: "0"}}, verbosity: 0}
metricsBindAddress: ""
mode: ""
nftables: {masqueradeAll: false, masqueradeBit: null, minSyncPeriod: 0s, syncPeriod: 0s}
nodePortAddresses: null
oomScoreAdj: null
portRange: ""
showHiddenMetricsForVersion: ""
windowsRunAsService: false
winkernel:
  {enableDSR: false, forwardHealthCheckVip: false, networkName: "", rootHnsEndpointName: "",
   sourceVip: ""}
"""
    )
    logging = config.logging
    assert msgspec.structs.replace(config, logging={}, mode="") == load(None)
    assert not file.warnings
    assert logging


def test_values(file: File) -> None:
    config = file.load(
        HEAD
        + """
mode: ipvs
hostnameOverride: " Node-A "
bindAddress: fd00::1
nodePortAddresses: [10.0.0.0/8, "::/0"]
detectLocalMode: BridgeInterface
detectLocal: {bridgeInterface: cni0}
ipvs: {scheduler: mh, strictARP: true, tcpTimeout: 15m, excludeCIDRs: [10.9.0.0/16]}
iptables: {masqueradeAll: true, masqueradeBit: 0}
"""
    )
    assert config.hostname_override == "node-a"
    assert config.healthz_bind_address == "[::]:10256"
    assert config.metrics_bind_address == "[::1]:10249"
    assert config.node_port_addresses == ("10.0.0.0/8", "::/0")
    assert (config.ipvs.scheduler, config.ipvs.tcp_timeout) == ("mh", Seconds(900))
    assert (config.iptables.masquerade_all, config.iptables.masquerade_bit) == (True, 0)
    assert file.warnings == []


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("30s", 30),
        ("1m30s", 90),
        ("1.5h", 5400),
        ("100ms", 0.1),
        ("2h45m.5s", 9900.5),
        ("-1s", -1),
        ("+5us", 5e-6),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert duration(text) == pytest.approx(seconds)
    assert isinstance(duration(text), Seconds)


@pytest.mark.parametrize("text", ["", "30", "s", "1 s", "1s ", "1d", "s1", "--1s", "1s-2s", "-"])
def test_no_durations(text: str) -> None:
    with pytest.raises(ValueError):
        duration(text)


def test_unknown_fields_are_named_and_passed_over(file: File) -> None:
    text = HEAD + "mode: ipvs\nipvs: {sheduler: rr}\nudpIdleTimeout: 250ms\n"
    assert file.load(text).mode == "ipvs"
    assert [line.split(": ", 1)[1] for line in file.warnings] == [
        "ipvs.sheduler: unknown field, passed over",
        "udpIdleTimeout: unknown field, passed over",
    ]
    line = "KubeProxyConfiguration: ipvs.sheduler: unknown field"
    assert file.refused(text, strict=True) == line


def test_what_hairpin_does_not_use_is_named_once(file: File) -> None:
    file.load(
        HEAD
        + """
mode: ipvs
clientConnection: {kubeconfig: /var/lib/kube-proxy/kubeconfig.conf, qps: 7}
conntrack: {maxPerCore: 32768, min: 0, tcpBeLiberal: true}
featureGates: {SomeGate: true}
winkernel: {enableDSR: true}
oomScoreAdj: -999
metricsBindAddress: 0.0.0.0:10249
"""
    )
    assert sorted(line.split(": ")[1] for line in file.warnings) == [
        "clientConnection.qps",
        "conntrack.maxPerCore",
        "featureGates",
        "winkernel.enableDSR",
    ]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("mode: ipsv", 'mode: "ipsv" is none of "iptables", "ipvs", "nftables"'),
        ("mode: [ipvs]", "mode: expected text, got a list"),
        ("detectLocalMode: x", 'detectLocalMode: "x" is none of "ClusterCIDR", "NodeCIDR",'),
        ("iptables: {masqueradeBit: 32}", "iptables.masqueradeBit: 32 is not in 0 to 31"),
        ("iptables: {masqueradeBit: x}", "iptables.masqueradeBit: expected a whole number, got"),
        ("iptables: {masqueradeAll: 1}", "iptables.masqueradeAll: expected true or false, got"),
        ("ipvs: {syncPeriod: 30}", "ipvs.syncPeriod: the number 30 is not a duration\n  write it"),
        ("ipvs: {syncPeriod: 30x}", 'ipvs.syncPeriod: "30x" is not a duration'),
        ("ipvs: {syncPeriod: -1s}", "ipvs.syncPeriod: must be greater than 0"),
        ("ipvs: {syncPeriod: 1s, minSyncPeriod: 2s}", "ipvs.syncPeriod: is shorter than ipvs.min"),
        ("ipvs: {udpTimeout: -1s}", "ipvs.udpTimeout: is negative"),
        ("ipvs: {scheduler: random}", 'ipvs.scheduler: "random" is no scheduler\n  IPVS has rr,'),
        ("ipvs: {excludeCIDRs: [10.0.0.1]}", 'ipvs.excludeCIDRs[0]: "10.0.0.1" is not an IP net'),
        ("ipvs: []", "ipvs: expected a mapping, got a list"),
        (
            "nodePortAddresses: [primary, 10.0.0.0/8]",
            'nodePortAddresses[0]: "primary" cannot stand',
        ),
        ("nodePortAddresses: [10.0.0.0/33]", 'nodePortAddresses[0]: "10.0.0.0/33" is not an IP'),
        ("clusterCIDR: 10.0.0.0", 'clusterCIDR: "10.0.0.0" is not an IP network'),
        ("clusterCIDR: 10.0.0.0/8,11.0.0.0/8", "clusterCIDR: more than one network of a family"),
        ("clusterCIDR: 10.0.0.0/8,fd00::/8,fe00::/9", "clusterCIDR: more than one network"),
        ("conntrack: {min: -1}", "conntrack.min: is negative"),
        ("conntrack: {udpTimeout: -1s}", "conntrack.udpTimeout: is negative"),
        ("oomScoreAdj: 1001", "oomScoreAdj: 1001 is not in -1000 to 1000"),
        ("configSyncPeriod: -1s", "configSyncPeriod: must be greater than 0"),
        ("bindAddress: localhost", 'bindAddress: "localhost" is not an IP address'),
        ("healthzBindAddress: localhost:1", 'healthzBindAddress: "localhost" is not an IP address'),
        ("healthzBindAddress: 10.0.0.1:0", 'healthzBindAddress: "0" is not a port'),
        ("healthzBindAddress: 10256", "healthzBindAddress: expected text, got the number 10256"),
        ("metricsBindAddress: x", 'metricsBindAddress: "x" is not like 127.0.0.1:10256'),
        ("detectLocalMode: BridgeInterface", "detectLocal.bridgeInterface: is missing"),
        ("detectLocalMode: InterfaceNamePrefix", "detectLocal.interfaceNamePrefix: is missing"),
        ("clientConnection: {burst: -1}", "clientConnection.burst: is negative"),
        (
            'featureGates: {A: true, B: ""}',
            "featureGates[B]: expected true or false, got the text",
        ),
        ("featureGates: {A: true, B: null}", "featureGates[B]: expected true or false, got no"),
    ],
)
def test_mistakes_are_named_with_their_field(file: File, text: str, error: str) -> None:
    mode = "" if text.startswith("mode") else "mode: ipvs\n"
    found = file.refused(HEAD + mode + text)
    assert found.startswith(f"KubeProxyConfiguration: {error}")


def test_sections_of_other_modes_are_not_looked_at(file: File) -> None:
    assert file.load(HEAD + "mode: iptables\nipvs: {scheduler: random}").mode == "iptables"
    assert file.load(HEAD + "mode: ipvs\nnftables: {masqueradeBit: 99}").mode == "ipvs"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "expected one KubeProxyConfiguration, found 0 documents"),
        (HEAD + "---\n" + HEAD, "expected one KubeProxyConfiguration, found 2 documents"),
        ("- a", "expected a KubeProxyConfiguration, got a list"),
        ("mode: ipvs", "kind: is missing\n  write kind: KubeProxyConfiguration"),
        (
            "apiVersion: v1\nkind: KubeProxyConfiguration",
            'apiVersion: expected kubeproxy.config.k8s.io/v1alpha1, got "v1"',
        ),
        ("kind: Service\napiVersion: v1", "kind: expected KubeProxyConfiguration, got"),
        (HEAD + "mode: [", ""),
    ],
)
def test_what_is_no_configuration(file: File, text: str, error: str) -> None:
    assert file.refused(text).startswith(error)


@pytest.mark.parametrize("name", ["missing.yaml", ".", "a\0b"])
def test_what_cannot_be_read(tmp_path: Path, name: str) -> None:
    with pytest.raises(ManifestError, match="cannot be read"):
        load(f"{tmp_path}/{name}")


# Flags


def test_flags_are_the_fields_they_stand_for() -> None:
    config = load(
        None,
        {
            "proxy-mode": "ipvs",
            "hostname-override": " Node-A",
            "ipvs-strict-arp": "true",
            "ipvs-scheduler": "sh",
            "ipvs-exclude-cidrs": "10.0.0.0/8, fd00::/8",
            "ipvs-tcp-timeout": "1h",
            "masquerade-all": "1",
            "iptables-masquerade-bit": "7",
            "nodeport-addresses": "primary",
            "cluster-cidr": "10.244.0.0/16",
            "feature-gates": "A=true,B=false",
        },
    )
    assert (config.mode, config.hostname_override) == ("ipvs", "node-a")
    assert (config.ipvs.strict_arp, config.ipvs.scheduler) == (True, "sh")
    assert config.ipvs.exclude_cidrs == ("10.0.0.0/8", "fd00::/8")
    assert config.ipvs.tcp_timeout == Seconds(3600)
    assert (config.iptables.masquerade_all, config.iptables.masquerade_bit) == (True, 7)
    assert config.node_port_addresses == ("primary",)
    assert config.cluster_cidr == "10.244.0.0/16"
    assert config.feature_gates == {"A": True, "B": False}


def test_beside_a_file_only_the_hostname_counts(file: File) -> None:
    flags = {"hostname-override": "B", "proxy-mode": "iptables"}
    config = file.load(HEAD + "mode: ipvs\nhostnameOverride: a", flags)
    assert (config.mode, config.hostname_override) == ("ipvs", "b")
    assert file.warnings == [
        "--proxy-mode: is ignored, as with kube-proxy, because --config is given"
    ]


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("no-such-flag", "", "--no-such-flag: kube-proxy has no such flag"),
        ("ipvs-strict-arp", "yes", '--ipvs-strict-arp: "yes" is neither true nor false'),
        ("conntrack-min", "x", '--conntrack-min: "x" is no whole number'),
        ("kube-api-qps", "x", '--kube-api-qps: "x" is no number'),
        ("hostname-override", " ", "--hostname-override: is empty"),
        ("proxy-mode", "x", 'KubeProxyConfiguration: mode: "x" is none of'),
        ("ipvs-sync-period", "x", 'KubeProxyConfiguration: ipvs.syncPeriod: "x" is not a duration'),
    ],
)
def test_mistakes_in_flags(name: str, value: str, error: str) -> None:
    with pytest.raises(ManifestError) as caught:
        load(None, {name: value})
    assert str(caught.value).startswith(error)


def test_every_flag_is_of_a_field_that_there_is(file: File) -> None:
    samples = {None: "true", "N": "1", "NUMBER": "1", "DURATION": "1s", "LIST": "10.0.0.0/8"}
    others = {"IP": "10.0.0.1", "IP:PORT": "10.0.0.1:1", "CIDR[,CIDR]": "10.0.0.0/8"}
    for name, flag in FLAGS.items():
        value = (samples | others).get(flag.metavar, flag.choices[0] if flag.choices else "rr")
        if name == "feature-gates":
            value = "A=true"
        warnings: list[str] = []
        load(None, {name: value}, warnings=warnings)
        assert not any("unknown" in line for line in warnings), name
        assert flag.help


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=8), lambda inner:
    st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
        ["ipvs", "iptables", "mode", "syncPeriod", "conntrack", "scheduler", "clusterCIDR",
         "nodePortAddresses", "detectLocal", "featureGates", "logging", "bindAddress", "x"]),
        inner, max_size=4), max_leaves=8))  # fmt: skip
def test_anything_is_a_configuration_or_a_mistake_with_words(
    tmp_path_factory: Any, raw: Any
) -> None:
    if isinstance(raw, dict):
        raw = {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            **raw,
        }
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_bytes(msgspec.json.encode(raw))
    try:
        load(str(path))
    except ManifestError as error:
        assert error.message
