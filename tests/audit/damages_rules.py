"""What can be wrong with iptables, in IPVS mode and in iptables mode."""

from __future__ import annotations

from tests.audit.damage import (
    EXTRA,
    FLOWS,
    LEFTOVER,
    MISSING,
    RULES,
    RULES6,
    RULESET,
    SERVERS,
    SETS,
    STALE,
    WRONG,
    Damage,
    Edit,
    Told,
    absent,
    appended,
    before,
    beside,
    clean,
    drop,
    found,
    moved,
    noted,
    sub,
    swap,
    text,
    unjudged,
    written,
)

EITHER = (*MISSING, *WRONG)
ODD = (*EXTRA, *WRONG)

# Of default/g01-clusterip-tcp:p, and its endpoints.
SVC, SEP, SEP2 = (
    "KUBE-SVC-3G3LV7YIFHKW3JAH",
    "KUBE-SEP-FK4OY7ATYDXTLXG7",
    "KUBE-SEP-PQGPIGRVACHRZNC6",
)
SVC07, SEP07 = "KUBE-SVC-7WULQ444QIVHRGZM", "KUBE-SEP-B3UQOW7JR3UJWN62"
EXT04, EXT08 = "KUBE-EXT-Z5AVXHQDAC3LBITI", "KUBE-EXT-SHRO6CNK7KEESN5T"
FW06 = "KUBE-FW-6CDPEELAX4GFAOMT"
HALF = "--probability 0.50000000000"


def _lost(mode: str, owner: str, subject: str, pattern: str, file: str = RULES) -> Damage:
    name = f"{mode}{'6' if file == RULES6 else ''}: no {pattern}"
    return found(name, mode, Told(EITHER, owner, subject), drop(file, pattern))


def _proxy(name: str, mode: str, subject: str, *edits: Edit) -> Damage:
    return found(f"{mode}: {name}", mode, Told((*ODD, *MISSING), "proxy", subject), *edits)


def _both(name: str, *edits: Edit) -> tuple[Damage, ...]:
    """What is nobody's fault in either mode."""
    return tuple(clean(f"{mode}: {name}", mode, *edits) for mode in ("ipvs", "iptables"))


def _hidden(mode: str, table: str, chain: str, rule: str, at: str = "") -> Damage:
    edit = before(RULES, at or f"^-A {chain}", f"-A {chain} {rule}", table)
    return _proxy(f"{chain} after {rule}", mode, chain, edit)


# Others' rules, as those programs write them.
DOCKER = (
    before(RULES, "^-A", ":DOCKER - [0:0]", "nat"),
    before(RULES, "^-A PRE", "-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER", "nat"),
    before(RULES, "^-A POST", "-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE", "nat"),
    before(RULES, "^-A", ":DOCKER-USER - [0:0]", "filter"),
    before(RULES, "^-A FORWARD", "-A FORWARD -j DOCKER-USER", "filter"),
    before(RULES, "^COMMIT", "-A DOCKER-USER -j RETURN", "filter"),
)
PLUGINS = (
    before(RULES, "^-A", ":cali-FORWARD - [0:0]", "filter"),
    before(
        RULES, "^-A FORWARD", '-A FORWARD -m comment --comment "cali:wUH" -j cali-FORWARD', "filter"
    ),
    before(RULES, "^COMMIT", "-A FORWARD -m mark --mark 0x10000/0x10000 -j ACCEPT", "filter"),
    before(RULES, "^-A INPUT", "-A INPUT -s 10.9.0.0/16 -j ACCEPT", "filter"),
    before(RULES, "^-A", ":CNI-HOSTPORT-DNAT - [0:0]", "nat"),
    before(
        RULES, "^-A PRE", "-A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT", "nat"
    ),
    before(RULES, "^-A", ":FLANNEL-POSTRTG - [0:0]", "nat"),
    before(RULES, "^COMMIT", "-A POSTROUTING -j FLANNEL-POSTRTG", "nat"),
)
KUBELET = (
    before(RULES, "^-A", ":KUBE-KUBELET-CANARY - [0:0]", "filter"),
    before(RULES, "^-A", ":KUBE-KUBELET-CANARY - [0:0]", "nat"),
    before(RULES, "^-A", ":KUBE-MARK-DROP - [0:0]", "nat"),
    before(RULES, "^COMMIT", "-A KUBE-MARK-DROP -j MARK --set-xmark 0x8000/0x8000", "nat"),
    appended(RULES, "*raw\n:PREROUTING ACCEPT [5:3]\n:KUBE-IPTABLES-HINT - [0:0]\nCOMMIT\n"),
)
FIREWALL = (
    "-A KUBE-FIREWALL ! -s 127.0.0.0/8 -d 127.0.0.0/8 -m comment --comment "
    '"block incoming localnet connections" -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT '
    "-j DROP"
)
OF_KUBELET = f"""\
*mangle
:KUBE-IPTABLES-HINT - [0:0]
:KUBE-KUBELET-CANARY - [0:0]
:KUBE-PROXY-CANARY - [0:0]
COMMIT
*filter
:INPUT ACCEPT [0:0]
:KUBE-FIREWALL - [0:0]
-A INPUT -j KUBE-FIREWALL
{FIREWALL}
COMMIT
"""

CLEAN = (
    *_both("docker's rules", *DOCKER),
    *_both("rules of CNI plugins", *PLUGINS),
    *_both("kubelet's chains", *KUBELET),
    *_both("counters", sub(RULES, "^-A", "[12:3456] -A", 0), sub(RULES6, "^-A", "[0:0] -A", 0)),
    *_both("other comments", sub(RULES, '--comment "([^"]*)"', r'--comment "old \1"', 0)),
    *_both("no comments", sub(RULES, '-m comment --comment "[^"]*" ?', "", 0)),
    *_both("no --random-fully", *(swap(one, " --random-fully", "", -1) for one in (RULES, RULES6))),
    *_both("lines end as on Windows", text(RULES, lambda old: old.replace("\n", "\r\n"))),
    *_both("two variants", appended(RULES, "# Warning: iptables-legacy tables present\n")),
    clean("ipvs: kubelet's firewall", "ipvs",
          before(RULES, "^-A", ":KUBE-FIREWALL - [0:0]", "filter"),
          before(RULES, "^-A INPUT", "-A INPUT -j KUBE-FIREWALL", "filter"),
          before(RULES, "^COMMIT", FIREWALL, "filter")),
    clean("iptables: no canaries", "iptables", drop(RULES, "CANARY"), drop(RULES6, "CANARY")),
    clean("iptables: no nfacct", "iptables",
          *(sub(one, r"-m nfacct --nfacct-name  \w+ ", "", 0) for one in (RULES, RULES6))),
    clean("iptables: as 1.28 has node ports", "iptables",
          drop(RULES, r"-A KUBE-NODEPORTS -d 127\.0\.0\.0/8")),
    clean("ipvs: as 1.28 has IPv6 without external IPs", "ipvs",
          drop(RULES6, "KUBE-6-EXTERNAL-IP-LOCAL dst,dst -j RETURN")),
    clean("iptables: endpoints in another order", "iptables",
          sub(RULES, f"-A {SVC} (.*{HALF}) -j {SEP}\n-A {SVC} .*-j {SEP2}",
              f"-A {SVC} -m statistic --mode random {HALF} -j {SEP2}\n-A {SVC} -j {SEP}")),
    clean("iptables: rounded by another iptables", "iptables",
          sub(RULES, rf"(-A {SVC} .*--probability )0\.50000000000", r"\g<1>0.49999999953")),
    clean("iptables: remembered clients in another order", "iptables",
          sub(RULES, rf"(-A {SVC07} .*--rcheck.*\n)(-A {SVC07} .*--rcheck.*\n)", r"\2\1")),
    noted("a policy", "ipvs", "FORWARD", swap(RULES, ":FORWARD ACCEPT", ":FORWARD DROP")),
)  # fmt: skip

IPVS = (
    _lost("ipvs", "proxy", "KUBE-IPVS-FILTER", "-A INPUT .*KUBE-IPVS-FILTER"),
    _lost("ipvs", "proxy", "MASQUERADE", "requiring SNAT"),
    _lost("ipvs", "proxy", "PREROUTING", "-A PREROUTING"),
    _lost("ipvs", "proxy", "KUBE-MARK-MASQ", "KUBE-MARK-MASQ"),
    _lost("ipvs", "g06", "192.0.2.6", r"-A KUBE-IPVS-OUT-FILTER -s 192\.0\.2\.6"),
    _lost("ipvs", "proxy", "KUBE-POSTROUTING", "-A POSTROUTING", RULES6),
    _hidden("ipvs", "filter", "FORWARD", "-j DROP"),
    _hidden("ipvs", "filter", "INPUT", "-j ACCEPT"),
    _proxy("other networks are local", "ipvs", "KUBE-SERVICES",
           swap(RULES, "! -s 10.192.0.0/12", "! -s 10.0.0.0/8")),
    _proxy("another mark", "ipvs", "KUBE-FORWARD",
           swap(RULES, "--mark 0x4000/0x4000 -j ACCEPT", "--mark 0x8000/0x8000 -j ACCEPT")),
    _proxy("MASQUERADE first", "ipvs", "KUBE-POSTROUTING",
           moved(RULES, "requiring SNAT", "-A KUBE-POSTROUTING")),
    _proxy("ACCEPT before the mark", "ipvs", "KUBE-SERVICES",
           moved(RULES, "-A KUBE-SERVICES .*CLUSTER-IP .*-j ACCEPT", "-A KUBE-SERVICES ! -s")),
    _proxy("a jump twice", "ipvs", "INPUT",
           sub(RULES, "^(-A INPUT .*KUBE-IPVS-FILTER)$", r"\1\n\1")),
    _proxy("a jump under a condition", "ipvs", "PREROUTING",
           sub(RULES, "^-A PREROUTING -m", "-A PREROUTING -i eth0 -m")),
    _proxy("dropped, not refused", "ipvs", "KUBE-IPVS-FILTER",
           swap(RULES, "-j REJECT --reject-with icmp-port-unreachable", "-j DROP")),
    _proxy("looked up the wrong way round", "ipvs", "KUBE-POSTROUTING",
           swap(RULES, "KUBE-LOOP-BACK dst,dst,src", "KUBE-LOOP-BACK src,dst,dst")),
    found("ipvs: somebody's rule among ours", "ipvs", Told(ODD, "g01", "KUBE-SERVICES"),
          before(RULES, "-A KUBE-SERVICES", "-A KUBE-SERVICES -d 10.96.1.1/32 -j RETURN")),
    unjudged("ipvs: rules cut off", "ipvs", text(RULES, lambda old: old[: len(old) // 2])),
    unjudged("ipvs: an error instead", "ipvs", written(RULES, "iptables-save: not found\n")),
    *(unjudged(f"ipvs: no {one}", "ipvs", absent(one)) for one in (RULES, RULES6, SETS, SERVERS)),
)  # fmt: skip


def _g01(name: str, *edits: Edit, subject: str = SVC) -> Damage:
    return found(f"iptables: {name}", "iptables", Told((*ODD, *MISSING), "g01", subject), *edits)


IPTABLES = (
    _lost("iptables", "g01", "10.96.1.1", r"-A KUBE-SERVICES -d 10\.96\.1\.1/32"),
    _lost("iptables", "g01", SVC, f"-A {SVC} .*-j {SEP}$"),
    _lost("iptables", "g01", SEP, SEP),
    _lost("iptables", "g01", SEP, f"-A {SEP} .*KUBE-MARK-MASQ"),
    _lost("iptables", "g01", SVC, f"-A {SVC} .*KUBE-MARK-MASQ"),
    _lost("iptables", "g04", "30084", r"-A KUBE-NODEPORTS -p tcp .*--dport 30084"),
    _lost("iptables", "g05", "198.51.100.55", r"-A KUBE-SERVICES -d 198\.51\.100\.55"),
    _lost("iptables", "g06", "KUBE-PROXY-FIREWALL", r"-A KUBE-PROXY-FIREWALL -d 192\.0\.2\.6"),
    _lost("iptables", "g07", SVC07, f"-A {SVC07} .*--rcheck.*{SEP07}$"),
    _lost("iptables", "g08", EXT08, f"{EXT08} .*pod traffic"),
    _lost("iptables", "g08", "30888", "dport 30888"),
    _lost("iptables", "g13", "fd00:200::23", r"DNAT --to-destination \[fd00:200::23\]", RULES6),
    _lost("iptables", "g16", "192.0.2.16", r"-A KUBE-EXTERNAL-SERVICES -d 192\.0\.2\.16"),
    _lost("iptables", "proxy", "PREROUTING", "^-A PREROUTING"),
    _lost("iptables", "proxy", "KUBE-FORWARD", "KUBE-FORWARD .*INVALID"),
    _lost("iptables", "proxy", "KUBE-FIREWALL", "-A KUBE-FIREWALL"),
    _lost("iptables", "proxy", "KUBE-NODEPORTS", "NOTE: this must be the last"),
    _hidden("iptables", "nat", "PREROUTING", "-j ACCEPT"),
    _hidden("iptables", "nat", "POSTROUTING", "-j RETURN"),
    _hidden("iptables", "filter", "FORWARD", "-j DROP", "-A FORWARD .*KUBE-FORWARD"),
    _g01("nine in ten", sub(RULES, f"(-A {SVC} .*){HALF}", r"\1--probability 0.90000000000")),
    _g01("one in three", sub(RULES, f"(-A {SVC} .*){HALF}", r"\1--probability 0.33333333349")),
    _g01("the last one first", moved(RULES, f"-A {SVC} .*-j {SEP2}$", f"-A {SVC} .*-j {SEP}$")),
    _g01("an endpoint of another Service",
         before(RULES, f"-A {SVC} .*-j {SEP2}$",
                f"-A {SVC} -m statistic --mode random {HALF} -j KUBE-SEP-27VNEDJRESO7KG5I")),
    _g01("DNAT to elsewhere", swap(RULES, "10.200.0.11:8080\n", "10.200.0.99:8080\n"), subject=SEP),
    _g01("another port", swap(RULES, "10.200.0.11:8080\n", "10.200.0.11:80\n"), subject=SEP),
    _g01("RETURN before DNAT", before(RULES, f"-A {SEP} ", f"-A {SEP} -j RETURN"), subject=SEP),
    _g01("to another Service",
         sub(RULES, rf"(-A KUBE-SERVICES -d 10\.96\.1\.1/32 .*-j ){SVC}",
             r"\1KUBE-SVC-AEHTSBTZYMVZISXN"), subject="10.96.1.1"),
    _g01("every port", sub(RULES, r"(-A KUBE-SERVICES -d 10\.96\.1\.1/32 .*)-m tcp --dport 80 ",
                           r"\1"), subject="10.96.1.1"),
    _g01("a rule twice", sub(RULES, r"^(-A KUBE-SERVICES -d 10\.96\.1\.1/32 .*)$", r"\1\n\1"),
         subject="10.96.1.1"),
    found("iptables: clients are forgotten", "iptables", Told(WRONG, "g07", SEP07),
          sub(RULES, f"-m recent --set --name {SEP07} --mask 255.255.255.255 --rsource ", "")),
    found("iptables: affinity of a minute", "iptables", Told(WRONG, "g07", SVC07),
          sub(RULES, f"({SVC07} .*--rcheck --seconds) 7200", r"\1 60")),
    found("iptables: affinity of networks", "iptables", Told(WRONG, "g07", SVC07),
          sub(RULES, rf"(-A {SVC07} .*)255\.255\.255\.255", r"\g<1>255.255.255.0")),
    found("iptables: local becomes any", "iptables", Told(EITHER, "g08", EXT08),
          sub(RULES, f"-A {EXT08} -j KUBE-SVL", f"-A {EXT08} -j KUBE-SVC")),
    found("iptables: jump before mark", "iptables", Told(WRONG, "g04", EXT04),
          moved(RULES, f"-A {EXT04} -j", f"-A {EXT04}")),
    found("iptables: everybody may", "iptables", Told(WRONG, "g06", FW06),
          swap(RULES, f"-A {FW06} -s 10.0.0.0/8 ", f"-A {FW06} ")),
    found("iptables: dropped, not refused", "iptables", Told(WRONG, "g10", "10.96.1.10"),
          sub(RULES, r"(-A KUBE-SERVICES -d 10\.96\.1\.10/32 .*)-j REJECT .*", r"\1-j DROP")),
    found("iptables: a ClusterIP of nobody", "iptables", Told(EXTRA, "", "10.96.1.200"),
          before(RULES, r"-A KUBE-SERVICES -d 10\.96\.1\.1/32",
                 f"-A KUBE-SERVICES -d 10.96.1.200/32 -p tcp -m tcp --dport 80 -j {SVC}")),
    found("iptables: chains of nobody", "iptables", Told(EXTRA, "", "KUBE-SVC-AAAAAAAAAAAAAAAA"),
          before(RULES, "^:KUBE-SVC", ":KUBE-SVC-AAAAAAAAAAAAAAAA - [0:0]", "nat")),
    _proxy("another mark", "iptables", "KUBE-MARK-MASQ",
           swap(RULES, "-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000",
                "-A KUBE-MARK-MASQ -j MARK --set-xmark 0x8000/0x8000")),
    _proxy("node ports first", "iptables", "KUBE-SERVICES",
           moved(RULES, "NOTE: this must be the last", r"-A KUBE-SERVICES -d .*-j KUBE-(SVC|EXT)")),
    found("iptables: nothing", "iptables", Told(MISSING, "proxy", "KUBE-SERVICES"),
          written(RULES, "")),
    unjudged("iptables: no rules of IPv6", "iptables", absent(RULES6)),
)  # fmt: skip


def _flow(client: str, to: str, answer: str, protocol: str = "udp      17 28") -> Edit:
    ip, port = to.split(":")
    back, back_port = answer.split(":")
    return written(
        FLOWS,
        f"{protocol} src={client} dst={ip} sport=40000 dport={port} "
        f"src={back} dst={client} sport={back_port} dport=40000 mark=0 use=1\n",
    )


def _left(mode: str, by: str, subject: str, *files: str) -> Damage:
    told = Told(LEFTOVER, "", subject)
    return found(f"{mode}: what {by} left: {subject}", mode, told, beside(by, *files))


POD = "10.200.0.5"
REMNANTS = (
    _left("nftables", "iptables", "KUBE-", RULES, RULES6),
    _left("nftables", "ipvs", "virtual servers", SERVERS),
    _left("iptables", "ipvs", "virtual servers", SERVERS),
    _left("iptables", "ipvs", "sets of IPVS mode", SETS),
    _left("iptables", "nftables", "table ip kube-proxy", RULESET),
    _left("ipvs", "nftables", "table ip kube-proxy", RULESET),
    found("ipvs: what iptables left", "ipvs", Told(LEFTOVER, "iptables", "KUBE-SVC"),
          before(RULES, "^-A", ":KUBE-SVC-AAAAAAAAAAAAAAAA - [0:0]", "nat")),
    clean("nftables: kubelet's chains and a canary", "nftables", written(RULES, OF_KUBELET)),
    clean("iptables: others' virtual server", "iptables",
          written(SERVERS, "-A -t 203.0.113.5:80 -s wlc\n")),
    found("a flow to nobody", "iptables", Told(STALE, "g02"),
          _flow(POD, "10.96.1.2:53", "10.200.0.99:5353")),
    found("a node port's flow to nobody", "iptables", Told(STALE, "g04-nodeport:u"),
          _flow("203.0.113.7", "172.31.0.2:30054", "10.200.0.99:5353")),
    found("a flow that was never rewritten", "iptables", Told(STALE, "g02"),
          _flow(POD, "10.96.1.2:53", "10.96.1.2:53")),
    found("a flow with all that conntrack prints", "nftables", Told(STALE, "g02"),
          _flow(POD, "10.96.1.2:53", "10.200.0.99:5353", "ipv4     2 udp      17 28")),
    clean("a flow to an endpoint", "iptables", _flow(POD, "10.96.1.2:53", "10.200.0.12:5353")),
    clean("a flow to elsewhere", "iptables", _flow(POD, "8.8.8.8:53", "8.8.8.8:53")),
    clean("a node port's number elsewhere", "iptables",
          _flow(POD, "8.8.8.8:30054", "8.8.8.8:30054")),
    clean("TCP", "iptables",
          _flow(POD, "10.96.1.1:80", "10.200.0.99:8080", "tcp      6 86399 ESTABLISHED")),
)  # fmt: skip

DAMAGES = (*CLEAN, *IPVS, *IPTABLES, *REMNANTS)
