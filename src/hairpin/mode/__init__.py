"""The mechanisms that make Services true: one module a proxy mode.

A mode knows four things: what it desires, what it observes, how it applies a difference, and how
it cleans up.  May import ``kernel``, ``plan`` and below.
"""
