"""What a test run could not do, and whether it could still judge IPVS.

A pytest plugin, loaded by ``addopts`` in ``pyproject.toml``.  At the end of a run it names every
test that was skipped, with its reason, one line for each file and reason.  With the environment
variable ``HAIRPIN_REQUIRE_IPVS=1`` a run in which no test marked ``guest`` passed fails, even where
nothing else did: the machines that run the tests have no IPVS of their own, so that without the
embedded kernel everything about IPVS would be skipped and the run would still look green.
"""

import os
from collections import Counter

import pytest

REQUIRE_IPVS = "HAIRPIN_REQUIRE_IPVS"


class NotRun:
    """Remembers what was skipped and which guest tests passed in one run."""

    def __init__(self, require_ipvs: bool) -> None:
        self.require_ipvs = require_ipvs
        self.skipped: Counter[tuple[str, str]] = Counter()  # (file, reason) -> tests
        self.guest_tests = 0
        self.guest_passed = 0

    @property
    def ipvs_untested(self) -> bool:
        return self.require_ipvs and self.guest_passed == 0

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.skipped:
            self._skip(report)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        # A test that is expected to fail did run; pytest reports it as skipped all the same.
        if report.skipped and not hasattr(report, "wasxfail"):
            self._skip(report)
        if "guest" in report.keywords and report.when == "setup":
            self.guest_tests += 1
        if "guest" in report.keywords and report.when == "call" and report.passed:
            self.guest_passed += 1

    def _skip(self, report: pytest.CollectReport | pytest.TestReport) -> None:
        # For a skip pytest gives (path, line, "Skipped: reason").
        detail = report.longrepr
        text = detail[2] if isinstance(detail, tuple) else str(detail)
        self.skipped[report.nodeid.partition("::")[0], text.removeprefix("Skipped: ")] += 1

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.ipvs_untested and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for (file, reason), tests in sorted(self.skipped.items()):
            many = f"{tests} tests in " if tests > 1 else ""
            terminalreporter.write_line(f"not run: {many}{file}: {reason}", yellow=True)
        if self.ipvs_untested:
            terminalreporter.write_line(
                f"IPVS could not be tested: of {self.guest_tests} tests in the embedded "
                "kernel none passed",
                red=True,
            )


def pytest_configure(config: pytest.Config) -> None:
    """Start remembering; one object per run, so that nothing is kept in the module.

    Of several processes (pytest -n) the one that leads hears of all tests.
    """
    if hasattr(config, "workerinput"):
        return
    config.pluginmanager.register(NotRun(os.environ.get(REQUIRE_IPVS) == "1"), "hairpin-not-run")
