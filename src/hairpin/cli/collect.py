"""What this kernel holds, as the texts that tools would print of it; and such texts from a folder.

Most of it is read over netlink and written in the tools' words, so that ipvsadm, ipset, conntrack
and iproute2 need not be there; iptables-save and nft are run.  Nothing in the kernel is changed.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hairpin.audit.dump import Text
from hairpin.audit.held import FILES, Part
from hairpin.cli.this_kernel import HERE
from hairpin.lab.session import LabError
from hairpin.model.errors import ManifestError
from hairpin.present.iptables_save import READ_WITH

if TYPE_CHECKING:
    from hairpin.kernel.apply import Kernel
    from hairpin.state.nftables import NftFamily, NftObject

_MAX_BYTES = 512 * 2**20  # of one file; the rules of 10 000 Services in iptables mode are 20 MB
_LIMIT = 120.0  # seconds for one program: nft lists 10 000 Services in 4 s
_SETTINGS = "/proc/sys/net"
_PASSED_OVER = frozenset(("neigh",))  # of each link's; many, and of no use here


def folder(path: Path) -> dict[Part, Text]:
    """The texts of a folder of dumps.  Raises ManifestError where there is none of them."""
    if not path.is_dir():
        raise ManifestError("is no folder", where=str(path), remedy=_REMEDY)
    found: dict[Part, Text] = {part: _read(path / name) for part, name in FILES.items()}
    if all(text is None for text in found.values()):
        names = ", ".join(FILES.values())
        raise ManifestError(f"holds no dump ({names})", where=str(path), remedy=_REMEDY)
    return found


_REMEDY = "such a folder is made by: hairpin audit --collect DIR"


def _read(path: Path) -> Text:
    try:
        if path.exists() and not path.is_file():
            raise OSError(errno.EINVAL, "not a file")
        with path.open("rb") as opened:
            size = os.fstat(opened.fileno()).st_size
            if size > _MAX_BYTES:
                raise OSError(errno.EFBIG, f"larger than {_MAX_BYTES >> 20} MiB")
            # No more than that: what is asked for is taken at once.
            return opened.read(size).decode("utf-8-sig")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        return error


def write(texts: dict[Part, Text], path: Path) -> list[str]:
    """Writes a folder of dumps; gives the names of the files.  Raises OSError."""
    path.mkdir(parents=True, exist_ok=True)
    written = []
    for part, name in FILES.items():
        text = texts.get(part)
        if isinstance(text, str):
            (path / name).write_text(text)
            written.append(name)
    return written


def this_kernel(*, files: bool) -> tuple[dict[Part, Text], list[NftObject] | None]:
    """The texts of the network namespace that hairpin was started in.

    What cannot be read is the error.  For ``files`` all are texts; else nf_tables is given as
    values, for which nft need not be there.  Raises LabError for an ordinary user.
    """
    from hairpin.kernel.apply import Kernel
    from hairpin.kernel.netns import Netns

    if os.geteuid():
        raise LabError("reading the kernel's tables needs root", "run it with sudo", exit_code=2)
    kernel = Kernel()
    try:
        kernel.adopt(Netns.current(HERE))
        found: dict[Part, Text] = {}
        nftables = None if files else _tables_of_nft(kernel)
        for part, read in _READERS.items():
            if part == "nftables" and nftables is not None:
                continue
            try:
                found[part] = read(kernel)
            except OSError as error:
                found[part] = error
            except ValueError as error:
                found[part] = OSError(errno.EINVAL, str(error))
        return found, nftables
    finally:
        kernel.close()


def _servers(kernel: Kernel) -> str:
    from hairpin.present import ipvsadm

    if not _has_ipvs():
        return ""
    return ipvsadm.save(kernel.observe_servers(HERE), thresholds=True)


def _timeouts(kernel: Kernel) -> Text:
    if not _has_ipvs():
        return None
    seen = kernel.ipvs(HERE).timeouts()
    return f"Timeout (tcp tcpfin udp): {seen.tcp} {seen.tcp_fin} {seen.udp}\n"


def _has_ipvs() -> bool:
    """Asked first, as asking IPVS itself would load its module."""
    return Path("/proc/net/ip_vs").exists()


def _sets(kernel: Kernel) -> str:
    from hairpin.kernel.errors import KernelError
    from hairpin.present import ipset

    try:
        return ipset.save(kernel.observe_sets(HERE, "KUBE-"))
    except KernelError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOENT):
            return ""  # a kernel without ipset has no sets
        raise


def _tables(program: str) -> Callable[[Kernel], str]:
    def read(kernel: Kernel) -> str:
        """Of the two variants' rules, those that are a proxy's."""
        texts = []
        failed: OSError | None = None
        for name in (program, f"{program}-nft", f"{program}-legacy"):
            try:
                text = _run(kernel, f"{name}-save")
            except OSError as error:
                failed = failed or error
                continue
            texts.append(text if name == program else f"{READ_WITH}{name}-save\n{text}")
        if not texts and failed is not None:
            raise failed
        return max(texts, key=lambda text: text.count("\n:KUBE-"))

    return read


def _ruleset(kernel: Kernel) -> str:
    try:
        return _run(kernel, "nft", "-j", "list", "ruleset")
    except OSError as error:
        if "not supported" in str(error) or "Unable to initialize Netlink" in str(error):
            return '{"nftables": []}\n'  # a kernel without nf_tables has no tables
        raise


def _tables_of_nft(kernel: Kernel) -> list[NftObject] | None:
    """kube-proxy's tables; None where they can only be asked for by nft."""
    from hairpin.plan.nft_names import FAMILIES, TABLE

    families: tuple[NftFamily, ...] = (*FAMILIES.values(), "inet")
    try:
        return [one for family in families for one in kernel.observe_nft(HERE, family, TABLE)]
    except OSError:
        return None


def _run(kernel: Kernel, name: str, *words: str) -> str:
    """Raises KernelError."""
    from hairpin.kernel import spawn
    from hairpin.kernel.errors import KernelError

    path = spawn.find([name])
    ended = spawn.run(kernel.namespaces[HERE], [path, *words], limit=_LIMIT)
    if ended.code:
        said = ended.err.strip().splitlines()
        text = said[0] if said else f"exit code {ended.code}"
        raise KernelError(errno.EIO, f"{name}: {text}")
    return ended.out


def _links(kernel: Kernel) -> str:
    from hairpin.state.links import Address, Link

    seen = kernel.observe(HERE, derived=True)
    addresses: dict[str, list[dict[str, Any]]] = {}
    for one in seen:
        if isinstance(one, Address):
            addresses.setdefault(one.link, []).append(
                {
                    "family": "inet" if one.ip.version == 4 else "inet6",
                    "local": str(one.ip),
                    "prefixlen": one.prefix,
                }
            )
    rows = []
    for one in seen:
        if isinstance(one, Link):
            flags = ["LOOPBACK"] if one.type == "loopback" else []
            flags += ["UP"] if one.up else []
            flags += ["PROMISC"] if one.promisc else []
            row: dict[str, Any] = {"ifname": one.name, "flags": flags, "mtu": one.mtu}
            if one.type not in ("loopback", "other"):
                row["linkinfo"] = {"info_kind": one.type}
            rows.append(row | {"addr_info": addresses.get(one.name, [])})
    return _rows(rows)


def _bridges(kernel: Kernel) -> str:
    from hairpin.state.links import Link

    ports = [
        one for one in kernel.observe(HERE, derived=True) if isinstance(one, Link) and one.master
    ]
    return _rows(
        [{"ifname": one.name, "master": one.master, "hairpin": one.hairpin} for one in ports]
    )


def _rows(rows: list[dict[str, Any]]) -> str:
    """A list with one object a line."""
    return "[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n"


def _settings(_: Kernel) -> str:
    return "".join(f"{name} = {value}\n" for name, value in sorted(_walk()))


def _walk() -> Iterator[tuple[str, str]]:
    """Settings by their dotted names; a dot in a link's name is a slash, as sysctl(8) has it."""
    for where, folders, names in os.walk(_SETTINGS):
        folders[:] = [one for one in folders if one not in _PASSED_OVER]
        for name in names:
            path = f"{where}/{name}"
            try:
                with open(path, encoding="utf-8", errors="replace") as setting:
                    value = setting.read()
            except OSError:
                continue  # some can only be written
            parts = path.removeprefix("/proc/sys/").split("/")
            dotted = ".".join(part.replace(".", "/") for part in parts)
            for line in value.splitlines() or [""]:
                yield dotted, line


def _flows(kernel: Kernel) -> str:
    from hairpin.present import conntrack

    return conntrack.save(kernel.flows(HERE, "UDP"))


_READERS: dict[Part, Callable[[Kernel], Text]] = {
    "ipvs": _servers,
    "timeouts": _timeouts,
    "ipset": _sets,
    "iptables": _tables("iptables"),
    "ip6tables": _tables("ip6tables"),
    "nftables": _ruleset,
    "addresses": _links,
    "bridge": _bridges,
    "settings": _settings,
    "conntrack": _flows,
}
