"""No collections while a program is built, and afterwards everything is as it was."""

import gc
import sys

import pytest

import adjoint as torch
from adjoint.runtime.garbage import without_collections


@pytest.fixture(autouse=True)
def on_again():
    yield
    gc.enable()


@pytest.mark.parametrize("was_on", [True, False])
def test_state_is_restored(was_on):
    gc.enable() if was_on else gc.disable()

    def outer():
        inner = without_collections(gc.isenabled)
        return inner, gc.isenabled()

    assert without_collections(outer) == (False, False)
    assert gc.isenabled() == was_on
    with pytest.raises(ZeroDivisionError):
        without_collections(divmod, 1, 0)
    assert gc.isenabled() == was_on


def test_state_is_restored_after_an_interrupt_at_any_moment():
    for at in range(100):
        left = at

        def look(frame, event, arg):
            nonlocal left
            left -= event in ("call", "c_return")  # where the interpreter looks for signals
            if left < 0:
                sys.setprofile(None)
                raise KeyboardInterrupt

        sys.setprofile(look)
        try:
            without_collections(sum, (1, 2))
        except KeyboardInterrupt:
            assert gc.isenabled()
        else:
            break
        finally:
            sys.setprofile(None)
    assert 3 < at < 20


def test_a_program_is_built_without_collections(monkeypatch):
    from adjoint.trace import lower

    seen: list[bool] = []
    known = lower.graph_of
    monkeypatch.setattr(lower, "graph_of", lambda *a: seen.append(gc.isenabled()) or known(*a))
    x = torch.rand(7, 13)
    assert float((x * 0.125).sin().sum()) > 0 and gc.isenabled()
    assert seen or torch.is_eager()
    assert not any(seen)
