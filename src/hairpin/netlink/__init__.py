"""Wire formats: ``state`` values to bytes and back, with no socket in sight.

One codec style for rtnetlink, generic netlink (IPVS) and nfnetlink.  Pure; may import
``state`` and ``model.address``.  The sockets are in ``kernel``.
"""
