"""The demonstration from data to files: train, save, load, compare, report. Read `run_demo`."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

import adjoint as torch
from adjoint.demo.data import load_digits
from adjoint.demo.progress import ProgressBar
from adjoint.demo.report import write_report
from adjoint.demo.training import build_model, predict, train


@dataclass
class Outcome:
    """Results of one run.

    reload_identical: the loaded model gave exactly the scores of the trained one.
    engine: what the engine counted during training (`adjoint.stats`), after minus before.
    """

    accuracy: float
    right: int
    held_out: int
    parameters: int
    steps: int
    epochs: int
    seed: int
    final_loss: float
    train_seconds: float
    first_step_seconds: float
    median_step_seconds: float
    reload_identical: bool
    engine: dict[str, float]
    model_file: str
    report_file: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def run_demo(
    out: str | Path = "adjoint-demo",
    *,
    epochs: int = 15,
    seed: int = 0,
    stream: TextIO | None = None,
) -> Outcome:
    """Run the demonstration and leave `model.safetensors` and `report.html` in the folder `out`.

    stream: where progress goes (default stderr). Raises ValueError for epochs < 1, OSError when the
    folder cannot be written.
    """
    if epochs < 1:
        raise ValueError(f"epochs must be at least 1, got {epochs}")
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    training, held_out = load_digits()
    torch.manual_seed(seed)
    model = build_model()

    bar = ProgressBar(epochs, stream)
    before, began = torch.stats(), time.perf_counter()
    try:
        history = train(model, training, held_out, epochs, bar.update)
    finally:
        bar.close()
    seconds, after = time.perf_counter() - began, torch.stats()

    model_file = folder / "model.safetensors"
    torch.save(model.state_dict(), model_file)
    loaded = build_model()
    loaded.load_state_dict(torch.load(model_file))
    with torch.no_grad():
        identical = bool((model(held_out.images) == loaded(held_out.images)).all())
    predicted = predict(loaded, held_out.images)
    right = int((predicted == held_out.labels).sum().item())

    report_file = folder / "report.html"
    outcome = Outcome(
        accuracy=right / len(held_out.labels),
        right=right,
        held_out=len(held_out.labels),
        parameters=sum(p.numel() for p in model.parameters()),
        steps=len(history.step_loss),
        epochs=epochs,
        seed=seed,
        final_loss=history.step_loss[-1],
        train_seconds=seconds,
        first_step_seconds=history.step_seconds[0],
        median_step_seconds=statistics.median(history.step_seconds),
        reload_identical=identical,
        engine=difference(before, after),
        model_file=str(model_file),
        report_file=str(report_file),
    )
    write_report(report_file, outcome, history, model, held_out, predicted)
    return outcome


def difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, float]:
    """The engine's counters now minus then; what is not a number is left out."""
    return {
        key: value - before.get(key, 0)
        for key, value in after.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    }
