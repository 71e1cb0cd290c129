"""Where a packet went, who rewrote it, and because of what.

Observations of one connection (``observation``) become the packets of it (``packet``, ``follow``),
their ways through namespaces (``path``), and a Trace (``values``); where it failed, the cause is
looked up in a table (``causes``) of symptom, evidence, words and mend.

Pure: imports state and model, does no I/O.  What observes is in ``kernel`` (``capture``,
``observer``) and ``lab.tracing``; texts and pages are made in ``present``.
"""
