"""What every test shares: where machine code is left, and which tests the reference mode leaves out.

Machine code that tests leave on disk goes to a directory of this run, gone afterwards, which its workers share. So no test
finds code of an earlier run, or touches the cache of the user. Tests of the cache itself have directories of their own.

So are compiled Python files where Python is told to leave none beside their sources: the tests start some 150 interpreters,
and to compile the sources takes half of the time that one of them runs.

Tests marked `any_mode` record no operations in this process, so that the mode in which operations are recorded cannot
matter to them: they run in compiled mode only, where it is checked that they do not.
"""

from __future__ import annotations

import gc
import itertools
import os
import shutil
import sys
import tempfile
from collections.abc import Generator
from pathlib import Path

import pytest

YOUNG, LOOK_THROUGH = 100, 2500  # tests between two garbage collections: of what they have left, and of everything
_tests = 0  # that have begun
_path: Path | None = None  # of the last of them


def _quick_directory() -> str | None:
    """One in memory, if there is much of it: a file is written there twenty times as quickly as on a disk. None for the usual one."""
    shared = Path("/dev/shm")
    roomy = shared.is_dir() and os.access(shared, os.W_OK) and shutil.disk_usage(shared).free > 4 << 30
    return str(shared) if roomy else None


os.environ.setdefault("ADJOINT_TRIALS", "0")  # what is compiled is what is tested; tests of trials ask for them

_CODE = None  # the directory, in the process that has made it
if "PYTEST_XDIST_WORKER" not in os.environ:  # else the process that has started this one has named it
    _CODE = tempfile.mkdtemp(prefix="adjoint-tests-", dir=_quick_directory())
    os.environ["ADJOINT_CACHE_DIR"] = os.path.join(_CODE, "code")
    if sys.dont_write_bytecode and sys.pycache_prefix is None:
        sys.pycache_prefix = os.environ["PYTHONPYCACHEPREFIX"] = os.path.join(_CODE, "sources")
        sys.dont_write_bytecode = False
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "any_mode: records nothing, and runs in compiled mode only")
    config.addinivalue_line("markers", "by_record: the tests of one operator run one after the other, and find its programs")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    from adjoint.trace import state

    _order_by_record(items)
    if state.default_eager:
        for item in items:
            if item.get_closest_marker("any_mode"):
                item.add_marker(pytest.mark.skip(reason="the same in both modes, and run in compiled mode"))


def _order_by_record(items: list[pytest.Item]) -> None:
    """Of files that want it: all tests of the first operator, then all of the second, and so on; the trie does not hold all."""
    for _, group in itertools.groupby(range(len(items)), key=lambda k: items[k].path):
        places = list(group)
        if items[places[0]].get_closest_marker("by_record") is None:
            continue
        records = [getattr(getattr(items[k], "callspec", None), "params", {}).get("record") for k in places]
        first = {id(record): k for k, record in reversed(list(enumerate(records)))}
        items[places[0] : places[-1] + 1] = [items[places[k]] for k in sorted(range(len(places)), key=lambda k: first[id(records[k])])]


def pytest_collection_finish() -> None:
    """The seventeen thousand tests stay for the whole run: no garbage collection has to look at them."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Nor at what tests have left, which is mostly what Adjoint keeps; now and then it is looked through all the same."""
    global _path, _tests
    if item.path != _path or _tests % YOUNG == 0:
        if _tests % LOOK_THROUGH == 0:
            gc.unfreeze()
        gc.collect()
        gc.freeze()
    _path, _tests = item.path, _tests + 1


@pytest.fixture
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
