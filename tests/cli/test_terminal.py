"""A real terminal: its size, its keys, its modes, and its colours."""

import contextlib
import signal
import time
from collections.abc import Callable, Iterator

import pytest

from tests.cli.command import Hairpin
from tests.cli.terminal import LIMIT, Terminal

pytestmark = pytest.mark.guest

PROMPT = "client:/# "


@pytest.fixture
def shell(shared: Hairpin) -> Iterator[Terminal]:
    terminal = Terminal(shared, "shell", "client", size=(31, 97))
    with contextlib.closing(terminal):
        terminal.until(PROMPT)
        yield terminal


def _until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_command_sees_the_size_and_its_changes(shell: Terminal) -> None:
    shell.type("stty size\r")
    assert "31 97" in shell.until(PROMPT)
    # The kernel tells whoever runs in front: this one, not the shell.
    loop = "trap 'echo now $(stty size)' WINCH; echo beg''un; while :; do sleep 0.1; done"
    shell.type(f'sh -c "{loop}"\r'.replace("$", "\\$"))
    shell.until("begun")
    shell.resize(40, 120)
    shell.until("now 40 120")
    shell.type("\x03")
    shell.until(PROMPT)


def test_ctrl_c_ends_what_runs_in_front_and_nothing_else(shell: Terminal) -> None:
    shell.type("sh -c \"echo beg''un; exec sleep 4343\"\r")
    shell.until("begun")
    shell.type("\x03")
    shell.until(PROMPT)
    shell.type("echo code $?\r")
    shell.until("code 130")
    shell.type("exit 7\r")
    assert shell.ended() == 7


def test_ctrl_z_is_the_shells_in_the_lab(shell: Terminal) -> None:
    shell.type("sh -c \"echo beg''un; exec sleep 4444\"\r")
    shell.until("begun")
    shell.type("\x1a")
    shell.until("Stopped")
    assert not shell.stopped()  # the command line itself goes on
    shell.type("jobs; kill %1; fg; echo af''ter\r")
    shell.until("sleep 4444")
    shell.until("after")
    shell.type("exit\r")
    shell.ended()


def test_ctrl_d_ends_the_shell_and_the_terminal_is_as_before(shell: Terminal) -> None:
    assert shell.raw()
    shell.type("\x04")
    shell.until("exit")
    _until(lambda: not shell.raw())
    assert shell.ended() == 0


def test_suspended_from_outside_it_gives_the_terminal_back_and_takes_it_again(
    shell: Terminal,
) -> None:
    shell.signal(signal.SIGTSTP)
    _until(shell.stopped)
    assert not shell.raw()
    shell.resize(20, 50)  # meanwhile: the kernel tells it when it goes on
    shell.signal(signal.SIGCONT)
    _until(shell.raw)
    shell.type("stty size\r")
    shell.until("20 50")


def test_a_closed_window_ends_the_command_in_the_lab(shared: Hairpin) -> None:
    terminal = Terminal(shared, "exec", "-it", "client", "--", "sh", "-c", "echo on; sleep 4545")
    terminal.until("on")
    terminal.hang_up()
    _until(lambda: "4545" not in shared.ok("exec", "node/node", "--", "ps", "-eo", "args"))


def test_logs_follow_ends_with_ctrl_c(shared: Hairpin) -> None:
    terminal = Terminal(shared, "logs", "-f", "client")
    terminal.until("5")
    terminal.type("\x03")
    assert terminal.ended() == 130
    assert b"Traceback" not in terminal.said


def test_watch_ends_with_ctrl_c(shared: Hairpin) -> None:
    terminal = Terminal(shared, "get", "pods", "-w")
    terminal.until("web-1")
    terminal.type("\x03")
    assert terminal.ended() == 130
    assert b"Traceback" not in terminal.said


@pytest.mark.parametrize(
    ("environment", "coloured"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True), ({"TERM": "dumb"}, False)],
)
def test_colour_on_a_terminal_only_where_it_is_wanted(
    shared: Hairpin, environment: dict[str, str], coloured: bool
) -> None:
    plain = {**shared.env, "TERM": "xterm"}
    plain.pop("NO_COLOR", None)
    person = Hairpin.__new__(Hairpin)
    person.env, person.command = {**plain, **environment}, shared.command
    terminal = Terminal(person, "get", "pods")
    said = terminal.until("web-1") + terminal.until("\n")
    assert ("\033[32mRunning\033[0m" in said) is coloured
    assert ("\033" in said) is coloured
    assert terminal.ended() == 0
    assert "\033" not in shared.ok("get", "pods")
