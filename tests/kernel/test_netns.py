"""Namespaces are made, entered, left and forgotten."""

from __future__ import annotations

import errno
import os
import socket
import threading
from pathlib import Path

import pytest

from hairpin.kernel.errors import KernelError
from hairpin.kernel.netns import Netns as Handle
from hairpin.kernel.sockets import Sockets
from hairpin.kernel.syscalls import MS_BIND, mount, sethostname, setns, umount
from hairpin.netlink.link import NETLINK_ROUTE, dump_links
from hairpin.state.links import Netns
from tests.kernel.host import DIRECTORY, Host

pytestmark = pytest.mark.host


def here() -> str:
    return str(Path("/proc/thread-self/ns/net").readlink())


def identity(handle: Handle) -> str:
    return f"net:[{os.fstat(handle.fd).st_ino}]"


def test_a_namespace_is_new_and_the_thread_comes_back() -> None:
    before = here()
    handle = Handle.create("x")
    try:
        assert here() == before
        assert identity(handle) != before
        with handle.entered():
            assert here() == identity(handle)
            assert [name for _, name in socket.if_nameindex()] == ["lo"]
        assert here() == before
    finally:
        handle.destroy()


def test_entering_nests_and_an_exception_does_not_keep_the_thread_inside() -> None:
    before = here()
    one, two = Handle.create("one"), Handle.create("two")
    try:
        with pytest.raises(ZeroDivisionError), one.entered():
            with two.entered():
                assert here() == identity(two)
            assert here() == identity(one)
            raise ZeroDivisionError
        assert here() == before
    finally:
        one.destroy()
        two.destroy()


def test_only_the_calling_thread_moves() -> None:
    outside = here()
    seen: list[str] = []
    go, done = threading.Event(), threading.Event()

    def look() -> None:
        go.wait(10)
        seen.append(here())
        done.set()

    thread = threading.Thread(target=look)
    thread.start()
    handle = Handle.create("x")
    try:
        with handle.entered():
            go.set()
            assert done.wait(10)
        assert seen == [outside]
    finally:
        handle.destroy()
        thread.join()


def test_lo_is_up_if_wanted() -> None:
    for lo_up in (True, False):
        handle = Handle.create("x", lo_up=lo_up)
        try:
            with handle.entered(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                assert (probe.connect_ex(("127.0.0.1", 9)) == 0) is lo_up
        finally:
            handle.destroy()


def test_ip_netns_sees_it_and_a_later_process_can_take_it_over(host: Host) -> None:
    (name,) = host.make("a")
    assert name in host.run(name, "ip", "netns").split()
    inode = Path(DIRECTORY, name).stat().st_ino
    assert identity(host.kernel.namespaces[name]) == f"net:[{inode}]"
    host.kernel.close()  # as a crash would: the mount stays
    host.must(host.add(Netns(name=name), ""))
    assert identity(host.kernel.namespaces[name]) == f"net:[{inode}]"
    host.kernel.close()
    host.must(host.remove(Netns(name=name), ""), host.remove(Netns(name=name), ""))
    assert not Path(DIRECTORY, name).exists()


def test_a_stale_file_is_replaced(host: Host) -> None:
    name = host.name("stale")
    Path(DIRECTORY, name).touch()
    host.must(host.add(Netns(name=name), ""))
    assert host.ip(name, "link")[0]["ifname"] == "lo"


def test_what_is_no_namespace_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(KernelError, match=r"EINVAL.*is not a network namespace"):
        Handle.open(str(tmp_path / "file"))
    with pytest.raises(FileNotFoundError):
        Handle.open(str(tmp_path / "absent"))


def test_system_calls_say_what_they_tried(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"mount tmpfs nothing on /nonexistent") as caught:
        mount("nothing", "/nonexistent", "tmpfs")
    assert caught.value.errno == errno.ENOENT
    with pytest.raises(OSError, match="umount") as caught:
        umount(str(tmp_path))
    assert caught.value.errno == errno.EINVAL
    with pytest.raises(OSError, match="setns") as caught:
        setns(-1)
    assert caught.value.errno == errno.EBADF
    with pytest.raises(OSError, match="sethostname") as caught:
        sethostname("x" * 65)
    assert caught.value.errno == errno.EINVAL
    with pytest.raises(OSError, match="mount"):
        mount(str(tmp_path / "absent"), str(tmp_path), None, MS_BIND)


def test_sockets_follow_a_name_to_its_new_namespace_and_are_few() -> None:
    sockets = Sockets(most=2)
    handles = [Handle.create(name) for name in ("a", "a", "b", "c")]
    try:
        first = sockets.get(handles[0], NETLINK_ROUTE)
        assert sockets.get(handles[0], NETLINK_ROUTE) is first
        assert sockets.get(handles[1], NETLINK_ROUTE) is not first
        held = {sockets.get(handle, NETLINK_ROUTE) for handle in handles[1:]}
        assert len(held) == 3
        with pytest.raises(OSError, match="Bad file descriptor"):
            first.dump(dump_links())
        assert sockets.get(handles[3], NETLINK_ROUTE) in held
        assert sockets.get(handles[1], NETLINK_ROUTE) not in held  # the oldest had to go
    finally:
        sockets.close()
        for handle in handles:
            handle.destroy()
