"""The Kubernetes API as a source: kubeconfig, credentials, HTTP, lists and watches.

``objects`` and ``recent`` are pure; ``kubeconfig`` and ``credentials`` read files and run exec
plugins; ``client`` speaks HTTP by urllib3; ``reflector`` follows one kind and ``follow`` all three
that a proxy needs, each in a thread of its own.  Imported by the node agent and by verbs that are
given a cluster, by nothing else: threads, subprocess and urllib3 are too dear for the guest.
"""
