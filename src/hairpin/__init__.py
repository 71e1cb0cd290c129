"""hairpin: Kubernetes Services on one Linux machine, running for real and explained.

The folders are the architecture; each one's docstring says what lives there, what it may
import and whether it does I/O.  ``docs/design.md`` draws the whole.
"""

__version__ = "0.1.0"
