"""Where Kubernetes objects come from.

Manifests (files, folders, standard input), and what the API server and its controllers would
have made of them: defaults, allocated addresses, EndpointSlices.  In ``api`` the API server itself,
listed and watched.  May import ``model``.  Only ``manifests`` and ``configuration`` read files, and
``api`` speaks HTTP; the rest is pure.
"""
