"""No collections while a program is built, and afterwards everything is as it was."""

import gc

import pytest

import adjoint as torch
from adjoint.runtime.garbage import NoCollections


@pytest.fixture(autouse=True)
def on_again():
    yield
    gc.enable()


@pytest.mark.parametrize("was_on", [True, False])
def test_state_is_restored(was_on):
    gc.enable() if was_on else gc.disable()
    with NoCollections():
        assert not gc.isenabled()
        with NoCollections():
            pass
        assert not gc.isenabled()
    assert gc.isenabled() == was_on
    with pytest.raises(ValueError), NoCollections():
        raise ValueError
    assert gc.isenabled() == was_on


def test_a_program_is_built_without_collections(monkeypatch):
    from adjoint.trace import lower

    seen: list[bool] = []
    known = lower.graph_of
    monkeypatch.setattr(lower, "graph_of", lambda *a: seen.append(gc.isenabled()) or known(*a))
    x = torch.rand(7, 13)
    assert float((x * 0.125).sin().sum()) > 0 and gc.isenabled()
    assert seen or torch.is_eager()
    assert not any(seen)
