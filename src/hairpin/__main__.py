"""``python -m hairpin`` is ``hairpin``."""

import sys

from hairpin.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
