"""One trial for each ability of a kernel that ``probe`` asks about.

Each does it once, in the calling thread's namespaces, which are to be thrown away, and raises
OSError when it cannot be done.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Sequence
from struct import Struct

from hairpin.kernel import spawn, syscalls
from hairpin.kernel.apply import Kernel
from hairpin.kernel.errors import KernelError
from hairpin.kernel.netlink_socket import NetlinkSocket
from hairpin.kernel.netns import Netns
from hairpin.model.address import ip
from hairpin.netlink import message as wire
from hairpin.netlink.conntrack import NETLINK_NETFILTER
from hairpin.netlink.link import NETLINK_ROUTE
from hairpin.netlink.message import NLM_F_CREATE, NLM_F_EXCL, Request
from hairpin.state.change import Change, Object
from hairpin.state.ipvs import SCHEDULERS, Protocol, VirtualServer
from hairpin.state.links import Link
from hairpin.state.nftables import Hook, Masquerade, NftChain, NftFamily, NftRule, NftTable
from hairpin.state.sysctl import Sysctl

_HERE = "here"  # the namespace to throw away, by the name that Kernel knows it by
_NOBODY = 65534
_MOST_SAID = 200  # characters of what a program says


def _make(*things: Object) -> None:
    """Adds objects to the namespace to throw away; sysctls are set.  Raises KernelError."""
    kernel = Kernel()
    kernel.adopt(Netns.current(_HERE))
    try:
        for thing in things:
            change = Change(
                verb="set" if isinstance(thing, Sysctl) else "add", netns=_HERE, object=thing
            )
            failed = kernel.apply([change])
            if failed:
                raise failed[0].error
    finally:
        kernel.close()


def _ask(protocol: int, request: Request) -> None:
    """Sends one netlink request.  Raises KernelError, also for a kernel without the protocol."""
    opened = NetlinkSocket(protocol)
    try:
        error = opened.batch([request])[0]
        if error is not None:
            raise error
    finally:
        opened.close()


def _run(programs: Sequence[str], script: str, *arguments: str) -> None:
    """Gives a program its input.  Raises KernelError with what it said."""
    here = Netns.current(_HERE)
    try:
        ended = spawn.run(here, [spawn.find(programs), *arguments], script)
    finally:
        here.close()
    if ended.code:
        said = " ".join(ended.err.split())
        # Of nft only what it says, not where in its input; the rest repeats the input.
        error = said.partition(" Error: ")[2].partition(" table ")[0] or said[:_MOST_SAID]
        raise KernelError(errno.EOPNOTSUPP, error or f"{programs[0]}: exit code {ended.code}")


def virtual_server(
    scheduler: str = "rr", protocol: Protocol = "TCP", address: str = "192.0.2.1"
) -> None:
    port = 1 + SCHEDULERS.index(scheduler)
    _make(VirtualServer(protocol=protocol, ip=ip(address), port=port, scheduler=scheduler))


def settable(name: str) -> None:
    """A setting takes the value that it has."""
    path = "/proc/sys/" + name.replace(".", "/")
    try:
        with open(path, encoding="ascii") as setting:
            value = setting.read().strip()
    except FileNotFoundError:
        raise KernelError(errno.ENOENT, f"there is no setting {name}") from None
    try:
        _make(Sysctl(name=name, value=value))
    except KernelError as error:
        raise KernelError(error.errno or 0, f"{name} cannot be set: {error.strerror}") from None


def _link(kind: str, *data: bytes) -> None:
    """Makes a link of a type that labs do not use (IFLA_* in linux/if_link.h)."""
    info = [wire.text(1, kind)]
    if data:
        info.append(wire.nested(2, *data))
    body = (
        Struct("=BxHiII").pack(0, 0, 0, 0, 0)
        + wire.text(3, f"probe-{kind}")
        + wire.nested(18, *info)
    )
    _ask(NETLINK_ROUTE, Request(16, NLM_F_CREATE | NLM_F_EXCL, body))


def vxlan() -> None:
    _link("vxlan", wire.u32(1, 42))  # IFLA_VXLAN_ID


def ipip() -> None:
    _link("ipip", wire.attribute(3, bytes((192, 0, 2, 9))))  # IFLA_IPTUN_REMOTE


def dummy() -> None:
    _make(Link(name="probe1", type="dummy"))


def veth() -> None:
    _make(Link(name="probe2", type="veth", peer="probe3", peer_netns=_HERE))


def bridge() -> None:
    _make(Link(name="probe4", type="bridge"))


def bridge_hairpin() -> None:
    port = Link(
        name="probe6", type="veth", master="probe5", hairpin=True, peer="probe7", peer_netns=_HERE
    )
    _make(Link(name="probe5", type="bridge"), port)


def netem() -> None:
    """Delays on lo: TCA_KIND and TCA_OPTIONS of linux/rtnetlink.h, tc_netem_qopt."""
    options = Struct("=6I").pack(1, 10, 0, 0, 0, 0)
    head = Struct("=BxxxiIII").pack(0, 1, 0x10000, 0xFFFFFFFF, 0)
    body = head + wire.text(1, "netem") + wire.attribute(2, options)
    _ask(NETLINK_ROUTE, Request(36, NLM_F_CREATE | NLM_F_EXCL, body))


def _nfnetlink(kind: int, flags: int, *attributes: bytes, number: int = 0) -> None:
    head = Struct("=BBH").pack(socket.AF_INET, 0, socket.htons(number))
    _ask(NETLINK_NETFILTER, Request(kind, flags, head + b"".join(attributes)))


def ipset() -> None:
    """IPSET_CMD_CREATE of linux/netfilter/ipset/ip_set.h: a set as kube-proxy makes them."""
    attributes = (
        wire.u8(1, 7), wire.text(2, "probe"), wire.text(3, "hash:ip,port"), wire.u8(4, 1),
        wire.u8(5, socket.AF_INET), wire.nested(7),
    )  # fmt: skip
    _nfnetlink(6 << 8 | 2, NLM_F_CREATE | NLM_F_EXCL, *attributes)


def nflog() -> None:
    """NFULNL_CFG_CMD_BIND of linux/netfilter/nfnetlink_log.h."""
    _nfnetlink(4 << 8 | 1, 0, wire.u8(1, 1), number=1)


def conntrack_netlink() -> None:
    _nfnetlink(1 << 8 | 2, 0)  # IPCTNL_MSG_CT_DELETE of everything


def masquerade(variant: str) -> None:
    script = "*nat\n-A POSTROUTING -s 192.0.2.0/24 -j MASQUERADE\nCOMMIT\n"
    _run([f"iptables{variant}-restore"], script, "--noflush")


def nft_nat(family: NftFamily) -> None:
    """As hairpin programs it, which needs no program: an image of nftables mode has none."""
    _make(
        NftTable(family=family, name="probe"),
        NftChain(
            family=family,
            table="probe",
            name="postrouting",
            rules=(NftRule((Masquerade(),)),),
            hook=Hook(type="nat", hook="postrouting", priority=100),
        ),
    )


def nft_nat_inet() -> None:
    _nft("inet", "type nat hook postrouting priority 100;", "masquerade")


def nft_trace() -> None:
    _nft("inet", "type filter hook prerouting priority -350;", "meta nftrace set 1")


def _nft(family: str, hook: str, rule: str) -> None:
    chain = f"chain {family}{len(rule)} {{\n{hook}\n{rule}\n}}"
    script = f"table {family} probe {{\n{chain}\n}}\n"
    _run(["nft"], script, "-f", "-")


def listens(family: int, protocol: int, address: str, kind: int = socket.SOCK_STREAM) -> None:
    with socket.socket(family, kind, protocol) as opened:
        opened.bind((address, 0))
        opened.listen(1)


def packet_socket() -> None:
    socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0).close()


def overlay() -> None:
    """An overlay over a folder of the machine, written to memory, as a lab's root is made."""
    syscalls.mount("tmpfs", "/mnt", "tmpfs")
    for name in ("upper", "work", "merged"):
        os.mkdir(f"/mnt/{name}")
    layers = "lowerdir=/usr,upperdir=/mnt/upper,workdir=/mnt/work"
    options = layers + (",userxattr" if _is_alone() else "")
    syscalls.mount("overlay", "/mnt/merged", "overlay", 0, options)


def _is_alone() -> bool:
    """Whether there is one user here: that of an ordinary one's namespace (user_namespaces(7))."""
    with open("/proc/self/uid_map") as ids:
        return ids.read().split()[2] == "1"


def user_namespaces() -> None:
    """As an ordinary user: root may do more, but for one that is an ordinary user outside."""

    def work() -> None:
        if os.getuid() == 0 and not _is_alone():
            os.setgroups([])
            os.setresgid(_NOBODY, _NOBODY, _NOBODY)
            os.setresuid(_NOBODY, _NOBODY, _NOBODY)
        syscalls.unshare(syscalls.CLONE_NEWUSER | syscalls.CLONE_NEWNET)

    child = os.fork()
    if not child:
        code = 0
        try:
            work()
        except OSError as error:
            code = error.errno or 1
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code:
        raise KernelError(code, f"an ordinary user may make none: {os.strerror(code)}")
