"""What every test shares: machine code that tests leave on disk goes to a directory of this process, gone afterwards.

So no test finds code of an earlier run (or of another worker of the same run), or touches the cache of the user.
"""

from __future__ import annotations

import os
import shutil
import tempfile

_CODE = tempfile.mkdtemp(prefix="adjoint-tests-")
os.environ["ADJOINT_CACHE_DIR"] = os.path.join(_CODE, "code")


def pytest_unconfigure() -> None:
    shutil.rmtree(_CODE, ignore_errors=True)
