"""The agent's log: one line a message on standard error, as text or as JSON.

As JSON a line is what component-base writes for Kubernetes' own programs: ``ts`` in milliseconds of
the epoch, ``v`` the verbosity that shows it, ``msg``, then the message's own fields.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from datetime import datetime
from typing import TextIO


class AgentLog:
    """Used by several threads.  ``verbosity`` as klog's -v: messages of a higher level are left
    out; warnings never are."""

    def __init__(self, verbosity: int, *, as_json: bool, stream: TextIO | None = None) -> None:
        self.verbosity = verbosity
        self._as_json = as_json
        self._stream = stream if stream is not None else sys.stderr
        self._lock = threading.Lock()

    def info(self, message: str, *, level: int = 0, **fields: object) -> None:
        if level <= self.verbosity:
            self._write("info", message, level, fields)

    def warning(self, message: str, **fields: object) -> None:
        self._write("warning", message, 0, fields)

    def _write(self, severity: str, message: str, level: int, fields: dict[str, object]) -> None:
        now = time.time()
        if self._as_json:
            head = {"ts": round(now * 1000, 3), "severity": severity, "v": level, "msg": message}
            line = json.dumps({**head, **fields}, ensure_ascii=False, default=str)
        else:
            at = datetime.fromtimestamp(now).astimezone().isoformat(timespec="milliseconds")
            words = [f"{name}={_shown(value)}" for name, value in fields.items()]
            line = " ".join([at, severity, _one_line(message), *words])
        with self._lock:
            try:
                self._stream.write(line + "\n")
                self._stream.flush()
            except (OSError, ValueError):
                pass  # who read the log is gone; the node goes on


def _shown(value: object) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return json.dumps(text, ensure_ascii=False) if " " in text or not text else _one_line(text)


def _one_line(text: str) -> str:
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)
