"""``python -m maxaffine`` is the command ``maxaffine``."""

import sys

from maxaffine._cli import main

if __name__ == "__main__":
    sys.exit(main())
