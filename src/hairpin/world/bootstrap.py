"""First code of the keeper and of a World's PID 1: run by path, with ``python -ISE``.

Arguments: folder of the World, module of ``hairpin.world`` to run, whatever that wants.  The
folder's ``python`` holds hairpin and what it imports, and nothing else of site-packages: in the
guest each entry of ``sys.path`` and each optional import costs milliseconds.
"""

import sys

sys.dont_write_bytecode = True
sys.path.append(sys.argv[1] + "/python")
if sys.argv[2] == "guest":
    from hairpin.world import guest

    guest.main(sys.argv[1], sys.argv[3:])
elif sys.argv[2] == "hosted":
    from hairpin.world import hosted

    hosted.main(sys.argv[1], sys.argv[3:])
else:
    from hairpin.world import keeper

    keeper.main(sys.argv[1], sys.argv[3:])
