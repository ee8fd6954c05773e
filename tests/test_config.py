"""Flags: declared once, parsed once, and named in the error when they do not parse."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import adjoint
from adjoint import config

VALUES = [
    ("ADJOINT_EAGER", "1", True),
    ("ADJOINT_EAGER", "no", False),
    ("ADJOINT_EAGER", "", False),
    ("ADJOINT_DEBUG", "4", 4),
    ("ADJOINT_DISABLE", "movement, algebra,,movement", ("algebra", "movement")),
    ("ADJOINT_NUM_THREADS", "3", 3),
    ("ADJOINT_TARGET", "avx2", "avx2"),
]


@pytest.mark.parametrize(("name", "text", "value"), VALUES)
def test_value(name, text, value, monkeypatch) -> None:
    monkeypatch.setenv(name, text)
    assert config.get(name) == value


@pytest.mark.parametrize("name", config.FLAGS)
def test_default(name, monkeypatch) -> None:
    monkeypatch.delenv(name, raising=False)
    assert config.get(name) == config.FLAGS[name].default
    assert f"{name}=" in config.describe()


@pytest.mark.parametrize(
    ("name", "text"), [("ADJOINT_EAGER", "maybe"), ("ADJOINT_DEBUG", "-1"), ("ADJOINT_DEBUG", "x")]
)
def test_what_does_not_parse_names_the_flag(name, text, monkeypatch) -> None:
    monkeypatch.setenv(name, text)
    with pytest.raises(ValueError, match=name):
        config.get(name)


def test_undeclared_flag() -> None:
    with pytest.raises(KeyError):
        config.get("ADJOINT_NO_SUCH_FLAG")


def test_code_key_follows_what_can_change_code(monkeypatch) -> None:
    before = config.code_key()
    monkeypatch.setenv("ADJOINT_DEBUG", "2")
    assert config.code_key() == before
    monkeypatch.setenv("ADJOINT_DISABLE", "algebra")
    assert config.code_key() != before


def test_every_flag_in_the_sources_is_declared() -> None:
    root = Path(adjoint.__file__).parent
    named = {
        n
        for path in root.rglob("*.py")
        for n in re.findall(r"\bADJOINT_[A-Z_]+\b", path.read_text())
    }
    assert named <= set(config.FLAGS)
