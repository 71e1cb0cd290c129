"""What Linux holds or should hold, in the kernel's words.

Links, addresses, routes, sysctls, netfilter rules, virtual and real servers as frozen values,
the Change from one to another, and KernelState, in which every object knows who asked for it.
May import ``model.address``; does no I/O.
"""
