"""What can be wrong with IPVS, its sets, addresses and settings."""

from __future__ import annotations

from typing import Any

from tests.audit.damage import (
    ADDRESSES,
    EXTRA,
    MISSING,
    SERVERS,
    SETS,
    SETTINGS,
    WRONG,
    Damage,
    Edit,
    Told,
    absent,
    appended,
    clean,
    drop,
    found,
    noted,
    shape,
    sub,
    swap,
    text,
    unjudged,
    written,
)

REAL = "-a -t 10.96.1.1:80 -r 10.200.0.11:8080 -m -w 1"
G01 = "-A -t 10.96.1.1:80 -s rr\n"
G07 = "-A -t 10.96.1.7:80 -s rr -p 7200"
BEYOND = "-A -t 192.0.2.17:80 -s rr\n-a -t 192.0.2.17:80 -r 10.200.0.27:8080 -m -w 1\n"
OTHERS = "-A -t 203.0.113.5:80 -s wlc\n-a -t 203.0.113.5:80 -r 203.0.113.9:80 -g -w 1\n"


def _real(name: str, now: str) -> Damage:
    """Another real server in the place of one."""
    return found(
        name,
        "ipvs",
        Told(WRONG, "g01", "10.200.0.11"),
        swap(SERVERS, REAL, f"-a -t 10.96.1.1:80 -r 10.200.0.11:8080 {now}"),
    )


def _server(name: str, owner: str, old: str, new: str) -> Damage:
    return found(name, "ipvs", Told(WRONG, owner), swap(SERVERS, old, new))


def _extra(name: str, owner: str, what: str, lines: str) -> Damage:
    return found(name, "ipvs", Told(EXTRA, owner, what), appended(SERVERS, lines))


def _link(name: str, change: Any) -> Edit:
    def edit(links: list[dict[str, Any]]) -> None:
        for link in links:
            if link["ifname"] == name:
                change(link)

    return shape(ADDRESSES, edit)


def _without(name: str, ip: str) -> Edit:
    def change(link: dict[str, Any]) -> None:
        link["addr_info"] = [one for one in link["addr_info"] if one["local"] != ip]

    return _link(name, change)


def _with(name: str, ip: str, prefix: int) -> Edit:
    new = {"family": "inet6" if ":" in ip else "inet", "local": ip, "prefixlen": prefix}
    return _link(name, lambda link: link["addr_info"].append(new))


def _gone(links: list[dict[str, Any]]) -> None:
    links[:] = [one for one in links if one["ifname"] != "kube-ipvs0"]


VIRTUAL_SERVERS = (
    _real("an endpoint of weight 0", "-m -w 0"),
    _real("an endpoint of weight 100", "-m -w 100"),
    _real("direct routing", "-g -w 1"),
    _real("tunnelling", "-i -w 1 --tun-type ipip"),
    _real("thresholds", "-m -w 1 -x 100 -y 50"),
    _server("another scheduler", "g01", G01, "-A -t 10.96.1.1:80 -s wlc\n"),
    _server("a scheduler with a flag", "g01", G01, "-A -t 10.96.1.1:80 -s sh -b sh-port\n"),
    _server("affinity that nobody asks for", "g01", G01, "-A -t 10.96.1.1:80 -s rr -p 10800\n"),
    _server("no affinity", "g07", G07, "-A -t 10.96.1.7:80 -s rr"),
    _server("affinity for a shorter time", "g07", G07, "-A -t 10.96.1.7:80 -s rr -p 360"),
    _server("affinity of networks", "g07", G07, f"{G07} -M 255.255.255.0"),
    _server("affinity by SIP", "g07", G07, f"{G07} --pe sip"),
    _server("one packet", "g02", "-A -u 10.96.1.2:53 -s rr", "-A -u 10.96.1.2:53 -s rr -o"),
    _server(
        "scheduler of IPv6", "g20", "-A -t [fd00:96::120]:80 -s rr", "-A -t [fd00:96::120]:80 -s lc"
    ),
    _server(
        "affinity of IPv6 networks",
        "g13",
        "-A -t [fd00:96::113]:80 -s rr",
        "-A -t [fd00:96::113]:80 -s rr -p 10800 -M 64",
    ),
    found(
        "no virtual server",
        "ipvs",
        Told(MISSING, "g01", "TCP 10.96.1.1:80"),
        drop(SERVERS, r" 10\.96\.1\.1:80 "),
    ),
    found("no virtual server at all", "ipvs", Told(MISSING, "g01"), written(SERVERS, "")),
    found(
        "no real server",
        "ipvs",
        Told(MISSING, "g01", "10.200.0.11"),
        drop(SERVERS, r"10\.96\.1\.1:80 -r 10\.200\.0\.11"),
    ),
    found(
        "no real server of IPv6",
        "ipvs",
        Told(MISSING, "g13", "fd00:200::23"),
        drop(SERVERS, r"\[fd00:96::113\]:80 -r \[fd00:200::23\]"),
    ),
    found(
        "no node port", "ipvs", Told(MISSING, "g04", "172.31.0.2:30084"), drop(SERVERS, ":30084")
    ),
    found("no SCTP", "ipvs", Told(MISSING, "g03-multiport:sctp"), drop(SERVERS, "--sctp-service")),
    found(
        "at another port",
        "ipvs",
        (Told(MISSING, "g01", "10.96.1.1:80"), Told(EXTRA, "g01", "10.96.1.1:81")),
        swap(SERVERS, " 10.96.1.1:80 ", " 10.96.1.1:81 ", -1),
    ),
    found(
        "of another protocol",
        "ipvs",
        (Told(MISSING, "g01", "TCP 10.96.1.1:80"), Told(EXTRA, "g01", "UDP 10.96.1.1:80")),
        swap(SERVERS, "-t 10.96.1.1:80 ", "-u 10.96.1.1:80 ", -1),
    ),
    found(
        "an endpoint at another port",
        "ipvs",
        (Told(MISSING, "g01", "10.200.0.11:8080"), Told(EXTRA, "g01", "10.200.0.11:8081")),
        swap(SERVERS, REAL, "-a -t 10.96.1.1:80 -r 10.200.0.11:8081 -m -w 1"),
    ),
    found(
        "an endpoint that nobody has",
        "ipvs",
        Told(EXTRA, "g01", "10.200.0.99"),
        swap(SERVERS, REAL, f"{REAL}\n-a -t 10.96.1.1:80 -r 10.200.0.99:8080 -m -w 1"),
    ),
    found(
        "an endpoint that is not ready",
        "ipvs",
        Told(EXTRA, "g18", "10.200.1.28"),
        swap(
            SERVERS,
            "-A -t 10.96.1.18:80 -s rr\n",
            "-A -t 10.96.1.18:80 -s rr\n-a -t 10.96.1.18:80 -r 10.200.1.28:8080 -m -w 1\n",
        ),
    ),
    found(
        "another node's endpoint where only local ones count",
        "ipvs",
        Told(EXTRA, "g08", "10.200.1.18"),
        swap(
            SERVERS,
            "-A -t 192.0.2.8:80 -s rr\n",
            "-A -t 192.0.2.8:80 -s rr\n-a -t 192.0.2.8:80 -r 10.200.1.18:8080 -m -w 1\n",
        ),
    ),
    found(
        "UDP does not end gracefully",
        "ipvs",
        Told(EXTRA, "g02", "10.200.0.99"),
        swap(
            SERVERS,
            "-A -u 10.96.1.2:53 -s rr\n",
            "-A -u 10.96.1.2:53 -s rr\n-a -u 10.96.1.2:53 -r 10.200.0.99:5353 -m -w 0\n",
        ),
    ),
    _extra("an address of nobody", "", "10.96.1.99:80", "-A -t 10.96.1.99:80 -s rr\n"),
    _extra("another port", "g01", "10.96.1.1:8080", "-A -t 10.96.1.1:8080 -s rr\n"),
    _extra("a node port of loopback", "g04", "127.0.0.1:30084", "-A -t 127.0.0.1:30084 -s rr\n"),
    _extra("a node port of nobody", "", "172.31.0.2:30999", "-A -t 172.31.0.2:30999 -s rr\n"),
    _extra("an address that a proxy beyond has", "g17", "192.0.2.17", BEYOND),
    _extra("others', not excluded", "", "203.0.113.5:80", OTHERS),
    clean(
        "others', excluded",
        "ipvs",
        appended(SERVERS, OTHERS),
        config=("ipvs:\n", "ipvs:\n  excludeCIDRs: [203.0.113.0/24]\n"),
    ),
    clean(
        "an endpoint that ends",
        "ipvs",
        swap(SERVERS, REAL, f"{REAL}\n-a -t 10.96.1.1:80 -r 10.200.0.99:8080 -m -w 0"),
    ),
    clean("a firewall mark", "ipvs", appended(SERVERS, "-A -f 12 -s wlc\n")),
    clean(
        "servers in another order",
        "ipvs",
        text(SERVERS, lambda old: "".join(sorted(old.splitlines(keepends=True)))),
    ),
    unjudged("names instead of numbers", "ipvs", swap(SERVERS, G01, "-A -t web.svc:http -s rr\n")),
)

ADDRESSES_OF_IT = (
    found(
        "no address", "ipvs", Told(MISSING, "g01", "10.96.1.1"), _without("kube-ipvs0", "10.96.1.1")
    ),
    found(
        "no IPv6 address",
        "ipvs",
        Told(MISSING, "g20", "fd00:96::120"),
        _without("kube-ipvs0", "fd00:96::120"),
    ),
    found(
        "no address of a load balancer",
        "ipvs",
        Told(MISSING, "g08", "192.0.2.8"),
        _without("kube-ipvs0", "192.0.2.8"),
    ),
    found(
        "an address too much",
        "ipvs",
        Told(EXTRA, "", "10.96.1.200"),
        _with("kube-ipvs0", "10.96.1.200", 32),
    ),
    found("no kube-ipvs0", "ipvs", Told(MISSING, "proxy", "kube-ipvs0"), shape(ADDRESSES, _gone)),
    found(
        "the node has another address",
        "ipvs",
        Told(MISSING, "g04", "10.50.0.7:30084"),
        _with("vec0", "10.50.0.7", 24),
    ),
    clean("a link-local address", "ipvs", _with("vec0", "fe80::1", 64)),
    clean(
        "links of a CNI plugin",
        "ipvs",
        shape(ADDRESSES, lambda links: links.append({"ifname": "veth1", "flags": ["UP"]})),
        shape(ADDRESSES, lambda links: links.append({})),
    ),
)

IPSETS = (
    found(
        "no entry",
        "ipvs",
        Told(MISSING, "g01", "10.96.1.1,tcp:80"),
        drop(SETS, r"add KUBE-CLUSTER-IP 10\.96\.1\.1,"),
    ),
    found(
        "no entry of IPv6",
        "ipvs",
        Told(MISSING, "g13", "fd00:96::113"),
        drop(SETS, "add KUBE-6-CLUSTER-IP fd00:96::113"),
    ),
    found(
        "a Pod cannot reach itself",
        "ipvs",
        Told(MISSING, "g01", "10.200.0.11"),
        drop(SETS, r"add KUBE-LOOP-BACK 10\.200\.0\.11,"),
    ),
    found("no health check", "ipvs", Told(MISSING, "g08", "30888"), drop(SETS, "PORT 30888")),
    found(
        "not known as Local",
        "ipvs",
        Told(MISSING, "g08", "192.0.2.8"),
        drop(SETS, r"LOCAL 192\.0\.2\.8,"),
    ),
    found(
        "known as Local",
        "ipvs",
        Told(EXTRA, "g04", "30084"),
        appended(SETS, "add KUBE-NODE-PORT-LOCAL-TCP 30084\n"),
    ),
    found(
        "a node port too much",
        "ipvs",
        Told(EXTRA, ""),
        appended(SETS, "add KUBE-NODE-PORT-TCP 31999\n"),
    ),
    found(
        "no set", "ipvs", Told(MISSING, "proxy", "KUBE-LOOP-BACK"), drop(SETS, " KUBE-LOOP-BACK ")
    ),
    found(
        "a set of another type",
        "ipvs",
        Told(WRONG, "proxy", "KUBE-LOOP-BACK"),
        swap(SETS, "KUBE-LOOP-BACK hash:ip,port,ip", "KUBE-LOOP-BACK hash:ip,port"),
        drop(SETS, "add KUBE-LOOP-BACK"),
    ),
    found(
        "a set of another family",
        "ipvs",
        Told(WRONG, "proxy", "KUBE-6-CLUSTER-IP"),
        swap(SETS, "KUBE-6-CLUSTER-IP hash:ip,port family inet6", "KUBE-6-CLUSTER-IP hash:ip,port"),
        drop(SETS, "add KUBE-6-CLUSTER-IP"),
    ),
    found(
        "entries go by themselves",
        "ipvs",
        Told(WRONG, "proxy", "KUBE-CLUSTER-IP"),
        sub(SETS, "^(create KUBE-CLUSTER-IP .*)$", r"\1 timeout 300"),
        sub(SETS, "^(add KUBE-CLUSTER-IP .*)$", r"\1 timeout 251", 0),
    ),
    found(
        "a source range narrowed",
        "ipvs",
        (Told(MISSING, "g06", "10.0.0.0/8"), Told(EXTRA, "g06", "10.0.0.0/9")),
        swap(SETS, "192.0.2.6,tcp:80,10.0.0.0/8", "192.0.2.6,tcp:80,10.0.0.0/9"),
    ),
    found(
        "a source range turned round",
        "ipvs",
        Told(WRONG, "g06", "10.0.0.0/8"),
        swap(SETS, "192.0.2.6,tcp:80,10.0.0.0/8", "192.0.2.6,tcp:80,10.0.0.0/8 nomatch"),
    ),
    clean(
        "others' sets",
        "ipvs",
        appended(SETS, "create l list:set size 8\nadd l docker\n"),
        appended(SETS, "create KUBE-SRC-ABCD hash:ip family inet timeout 0\n"),
        appended(SETS, "add KUBE-SRC-ABCD 10.1.1.1 timeout 0\n"),
    ),
    clean(
        "sizes and seeds",
        "ipvs",
        sub(SETS, r"hashsize 1024 maxelem 65536 bucketsize 12 initval \w+", "hashsize 4096", 0),
    ),
    clean(
        "counters and comments",
        "ipvs",
        sub(SETS, "^(create KUBE-CLUSTER-IP .*)$", r"\1 counters comment"),
        sub(SETS, "^(add KUBE-CLUSTER-IP .*)$", r'\1 packets 3 bytes 180 comment "a b"', 0),
    ),
    clean(
        "entries in another order",
        "ipvs",
        text(
            SETS,
            lambda old: "".join(
                sorted(old.splitlines(True), key=lambda one: (one[:3] == "add", one[::-1]))
            ),
        ),
    ),
    unjudged("ipset list", "ipvs", written(SETS, "Name: KUBE-CLUSTER-IP\nType: hash:ip,port\n")),
    unjudged("an unknown word", "ipvs", sub(SETS, "^(add KUBE-CLUSTER-IP .*)$", r"\1 sometimes")),
)

SYSCTLS = (
    found(
        "no conntrack",
        "ipvs",
        Told(WRONG, "proxy", "net.ipv4.vs.conntrack"),
        swap(SETTINGS, "vs.conntrack = 1", "vs.conntrack = 0"),
    ),
    found(
        "dead connections stay",
        "ipvs",
        Told(WRONG, "proxy", "expire_nodest_conn"),
        swap(SETTINGS, "expire_nodest_conn = 1", "expire_nodest_conn = 0"),
    ),
    found(
        "not as strict as asked",
        "ipvs",
        Told(WRONG, "proxy", "arp_ignore"),
        config=("ipvs:\n", "ipvs:\n  strictARP: true\n"),
    ),
    found(
        "no node ports at 127.0.0.1",
        "iptables",
        Told(WRONG, "proxy", "route_localnet"),
        swap(SETTINGS, "conf.all.route_localnet = 1", "conf.all.route_localnet = 0"),
    ),
    noted(
        "no forwarding",
        "ipvs",
        "net.ipv4.ip_forward",
        swap(SETTINGS, "ipv4.ip_forward = 1", "ipv4.ip_forward = 0"),
    ),
    noted("strict", "ipvs", "rp_filter", swap(SETTINGS, "all.rp_filter = 0", "all.rp_filter = 1")),
    noted(
        "bridged packets pass",
        "ipvs",
        "bridge-nf-call-iptables",
        swap(SETTINGS, "bridge-nf-call-iptables = 1", "bridge-nf-call-iptables = 0"),
    ),
    clean(
        "what sysctl could not read",
        "ipvs",
        appended(SETTINGS, "sysctl: permission denied on key 'net.ipv4.tcp_fastopen_key'\n"),
    ),
    clean("no blanks", "ipvs", text(SETTINGS, lambda old: old.replace(" = ", "="))),
    clean("no settings", "ipvs", absent(SETTINGS)),
)

DAMAGES = (*VIRTUAL_SERVERS, *ADDRESSES_OF_IT, *IPSETS, *SYSCTLS)
