"""Where Kubernetes objects come from.

Manifests (files, folders, standard input), and what the API server and its controllers would
have made of them: defaults, allocated addresses, EndpointSlices.  May import ``model``.  Only
``manifests`` reads files; the rest is pure.
"""
