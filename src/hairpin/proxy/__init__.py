"""The reconcile loop of one node, which follows Services and EndpointSlices with little work.

Change tracking, graceful termination, drift, retries.  May import ``mode`` and below; knows
nothing of where objects come from.

``agent``, ``health``, ``metrics``, ``server`` and ``service_health`` are for a real node alone:
they import asyncio, threading and prometheus-client, and labs do without.
"""
