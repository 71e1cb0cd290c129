"""The command line: one file per verb, which parses, calls and presents.

``main`` knows the verbs by name only, so that ``hairpin --help`` imports none of them.
"""
