"""What Kubernetes says, in Kubernetes' words.

Frozen values for Nodes, Pods, Services and EndpointSlices, decoded from the API's JSON shape
with the path of the field in every error.  Imports nothing of hairpin; does no I/O.
"""
