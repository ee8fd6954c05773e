"""What every test shares: where machine code is left, and which tests the reference mode leaves out.

Machine code that tests leave on disk goes to a directory of this run, gone afterwards, which its workers share. So no test
finds code of an earlier run, or touches the cache of the user. Tests of the cache itself have directories of their own.

Tests marked `any_mode` record no operations in this process, so that the mode in which operations are recorded cannot
matter to them: they run in compiled mode only, where it is checked that they do not.
"""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
from collections.abc import Generator

import pytest

_CODE = None  # the directory, in the process that has made it
if "PYTEST_XDIST_WORKER" not in os.environ:  # else the process that has started this one has named it
    _CODE = tempfile.mkdtemp(prefix="adjoint-tests-")
    os.environ["ADJOINT_CACHE_DIR"] = os.path.join(_CODE, "code")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "any_mode: records nothing, and runs in compiled mode only")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    from adjoint.trace import state

    if state.default_eager:
        for item in items:
            if item.get_closest_marker("any_mode"):
                item.add_marker(pytest.mark.skip(reason="the same in both modes, and run in compiled mode"))


def pytest_collection_finish() -> None:
    """The seventeen thousand tests stay for the whole run: no garbage collection has to look at them."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module")
def little_effort() -> Generator[None, None, None]:
    """Code made with little effort, which takes a third less time: for tests of what is computed, whose code runs once.

    What users get is tested everywhere else: kernels, all values of all operators, layers, optimizers and programs."""
    from adjoint.runtime import jit

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jit, "LOOPS_LEVEL", 0)
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    if not item.get_closest_marker("any_mode"):
        return (yield)
    from adjoint.trace.state import counters, local

    before = local.trace.id, local.trace.node, counters["nodes"]
    done = yield
    assert (local.trace.id, local.trace.node, counters["nodes"]) == before, "marked any_mode, but records operations"
    return done


def pytest_unconfigure() -> None:
    if _CODE is not None:
        shutil.rmtree(_CODE, ignore_errors=True)
