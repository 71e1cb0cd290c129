"""Where a lab lives: the embedded kernel (guest) or namespaces of the host's kernel.

Command line: ``lifecycle`` starts, finds and ends Worlds, with ``choice`` (which kernel),
``directory`` (the World's folder and lock), ``bytecode`` and ``spawn``; ``client`` talks to one.
Keeper, a process on the host: ``keeper`` relays connections, ``uml`` starts linux.uml.
PID 1 makes the system: ``guest`` that of the embedded kernel, ``hosted`` namespaces of the host's
(``root`` is their root); ``process`` and ``session`` serve requests, the same in both.
Between them ``link``: streams (``mux``) over reliable frames (``arq``), carrying ``protocol``.

``arq``, ``mux`` and ``protocol`` are pure; the rest does I/O.  May import ``lab`` and below; the
lab's service itself is loaded only when the guest answers already.
"""
