"""`python -m adjoint`: the same as the console script."""

from __future__ import annotations

import sys

from adjoint.cli import main

if __name__ == "__main__":
    sys.exit(main())
