"""Findings: what a node's kernel holds, held against what Services ask of it.

``dump`` reads what tools printed into ``Held``; ``judge`` compares that with the plan of the mode
and says what is missing, extra, wrong, left over from another mode or stale, whose it is, what it
means for traffic and what mends it.  ``node`` adds what a node's own settings mean.  All of it is
pure: who collects the texts, from a folder or from this kernel, is in ``cli``.

May import present, plan, source, state and model.
"""
