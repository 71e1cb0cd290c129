"""From what Services say to what the kernel should hold, and from two states to the changes.

Pure: the same input gives the same plan, in whatever order it came.
May import ``model``, ``source`` values and ``state``; does no I/O.
"""
