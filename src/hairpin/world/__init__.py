"""Where a lab lives: the embedded kernel (guest) or namespaces of the host's kernel.

Starts and ends Worlds, runs the lab process inside, and carries what the command line says to
it.  ``arq`` and ``mux`` are pure protocol machines; the rest does I/O.
"""
