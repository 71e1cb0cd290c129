"""A packet that connection tracking cannot place: whether an open connection outlives it.

An endpoint sends a segment far out of the window.  Connection tracking calls it INVALID and
translates nothing, so that the client sees a packet from the endpoint's own address, of no
connection that it has, and answers with a reset; that one fits, and ends the endpoint's connection.
kube-proxy's iptables mode drops such packets.  IPVS translates by its own table of connections,
whatever connection tracking says, and the client passes over what is out of its window.
"""

from __future__ import annotations

from hairpin.claims.base import Text
from hairpin.claims.objects import CLIENT, backends, cluster_ip, pod, service
from hairpin.claims.promises import Apply, Difference, Do, Finding, Promise, Unanswered
from hairpin.claims.scene import Scene

_PORT = 8099  # where the endpoint's own server listens
_SERVER = """
import json, socket, struct, sys, threading, time
port = int(sys.argv[1])
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)
server = socket.create_server(("0.0.0.0", port))

def checksum(data):
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    total = (total & 0xffff) + (total >> 16)
    return ~((total & 0xffff) + (total >> 16)) & 0xffff

def disturb(own, peer, client_port):
    # What the client says it has sent: the reset that it will send takes its number from there.
    while True:
        packet = raw.recv(65535)
        tcp = packet[(packet[0] & 15) * 4:]
        source, destination, seq, ack = struct.unpack("!HHII", tcp[:12])
        if (source, destination) == (client_port, port) and len(tcp) > (tcp[12] >> 4) * 4:
            break
    length = len(tcp) - (tcp[12] >> 4) * 4
    outside = (ack + 0x20000000) & 0xffffffff
    head = struct.pack("!HHIIBBHHH", port, client_port, outside, seq + length & 0xffffffff,
                       5 << 4, 0x18, 65535, 0, 0)
    pseudo = socket.inet_aton(own) + socket.inet_aton(peer)
    total = checksum(pseudo + struct.pack("!BBH", 0, 6, len(head) + 4) + head + b"boom")
    head = head[:16] + struct.pack("!H", total) + head[18:]
    raw.sendto(head + b"boom", (peer, 0))

connection, (peer, client_port) = server.accept()
own = connection.getsockname()[0]
thread = threading.Thread(target=disturb, args=(own, peer, client_port))
thread.start()
connection.settimeout(8)
try:
    connection.recv(100)
    thread.join(4)
    time.sleep(0.7)
    connection.sendall(b"after")
    connection.recv(100)
except OSError as error:
    print(type(error).__name__)
"""
_CLIENT = """
import socket, sys, time
connection = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=6)
connection.sendall(b"before")
try:
    answer = connection.recv(100)
    connection.sendall(b"thanks")
    print("answered" if answer == b"after" else "closed")
except TimeoutError:
    print("timeout")
except OSError as error:
    print(type(error).__name__)
"""
_NOT_DROPPED = Text(
    "nothing drops INVALID packets: the client gets the segment from the endpoint's own address "
    "and resets the connection",
    "没有规则丢弃 INVALID 报文: 客户端收到来自端点自身地址的报文并重置连接",
)
_RESET = Difference(
    expect=Unanswered(how=("error",)),
    reason=_NOT_DROPPED,
    source="k/k#74839, k/k#122663; kubernetes.io/blog/2019/03/29",
    topic="invalid-packets",
)


def _goes_on(scene: Scene) -> Finding:
    """The connection is open, the odd segment comes, then the endpoint answers."""
    address, port = scene.targets.resolve(cluster_ip())
    netns = scene.cast.netns(pod("n2-a"))
    argv = ["python3", "-c", _SERVER, str(_PORT)]
    scene.lab.call("start", name=scene.namespace, netns=netns, argv=argv, port=_PORT)
    seen = scene.run(CLIENT, "python3", "-c", _CLIENT, str(address), str(port)).strip()
    reset = scene.differs
    return Finding(
        what="a segment out of the window, then the answer",
        held=(seen != "answered") if reset else seen == "answered",
        expected="no answer: the connection is reset" if reset else "answered",
        seen=seen,
    )


CLAIMS = (
    Promise(
        id="services.conntrack.invalid",
        says=Text(
            "an open connection outlives a packet that connection tracking calls INVALID",
            "连接跟踪判为 INVALID 的报文不会中断已打开的连接",
        ),
        source="e2e Conntrack: proxy implementation should not be vulnerable to the invalid "
        "conntrack state bug",
        needs=frozenset({"nodes"}),
        steps=(
            Apply((service(), backends("n2-a", ports=(("", "TCP", _PORT),)))),
            Do(_goes_on, {"nftables": _RESET}),
        ),
    ),
)
