"""A lab: Kubernetes objects become Pods, nodes, links and workloads.

``topology`` and ``ingredients`` are pure; the rest runs inside the lab process, next to the
kernel it programs.  May import ``kernel``, ``plan``, ``source`` and below; knows nothing of how
the lab process was started or who talks to it.
"""
