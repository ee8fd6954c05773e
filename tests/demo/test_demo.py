"""The demonstration and the command line: files, repeatability, exit codes, streams."""

from __future__ import annotations

import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

import adjoint as torch
from adjoint import cli
from adjoint._version import __version__
from adjoint.demo import run, run_demo
from adjoint.demo.data import load_digits
from adjoint.demo.progress import ProgressBar
from adjoint.demo.report import digit_svg
from adjoint.demo.training import build_model, predict, share_right

VOID = {"meta", "br", "hr", "img", "input", "link"}


class Page(HTMLParser):
    """Checks that tags nest, and collects headings and attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.headings: list[str] = []
        self.attributes: list[tuple[str, str]] = []

    def handle_starttag(self, tag, attrs):
        self.attributes += [(k, v or "") for k, v in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("h1", "h2"):
            self.headings.append(data)


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    return run_demo(
        tmp_path_factory.mktemp("demo") / "new" / "folder", epochs=3, stream=io.StringIO()
    )


@pytest.fixture
def few_images(monkeypatch):
    """A run that takes a fraction of the time, for tests of other things than what is learnt."""
    training, held_out = load_digits()
    few = training._replace(images=training.images[:320], labels=training.labels[:320]), held_out
    monkeypatch.setattr(run, "load_digits", lambda: few)


def test_the_data():
    training, held_out = load_digits()
    assert training.images.shape == (1437, 1, 8, 8) and held_out.images.shape == (360, 1, 8, 8)
    assert training.images.dtype == torch.float32 and training.labels.dtype == torch.int64
    pixels = training.images.clone().numpy()
    assert pixels.min() == 0 and pixels.max() == 1
    counts = np.bincount(training.labels.clone().numpy()) + np.bincount(
        held_out.labels.clone().numpy()
    )
    assert counts.tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_three_epochs_learn_and_reload_exactly(outcome):
    assert outcome.accuracy > 0.85 and outcome.right == round(outcome.accuracy * 360)
    assert outcome.reload_identical and outcome.steps == 3 * 23
    assert 0 < outcome.median_step_seconds <= outcome.train_seconds
    model = build_model()
    model.load_state_dict(torch.load(outcome.model_file))
    _, held_out = load_digits()
    share = share_right(predict(model, held_out.images), held_out.labels)
    assert share == pytest.approx(outcome.accuracy)
    assert sum(p.numel() for p in model.parameters()) == outcome.parameters == 9930


def test_the_same_seed_gives_the_same_run(few_images, tmp_path):
    first, again, other = (run_demo(tmp_path, epochs=2, seed=seed, stream=io.StringIO()) for seed in (0, 0, 1))
    assert first.steps == 2 * 5
    assert again.final_loss == first.final_loss and again.accuracy == first.accuracy
    assert other.final_loss != first.final_loss


def test_the_report_is_one_complete_page(outcome):
    with open(outcome.report_file, encoding="utf-8") as file:
        text = file.read()
    page = Page()
    page.feed(text)
    page.close()
    assert page.open == []
    for words in (
        "Confusion matrix",
        "Misread digits",
        "Computation graph of one step",
        "What the engine did",
    ):
        assert words in page.headings
    assert f"{outcome.right} of 360" in text and f"{outcome.accuracy:.1%}" in text
    # Self-contained: no script, and nothing is fetched from anywhere.
    assert "<script" not in text and "@import" not in text
    assert not [v for k, v in page.attributes if k in ("src", "href") and not v.startswith("#")]
    assert all(u.startswith("#") for u in re.findall(r"url\(([^)]*)\)", text))
    # Usable: language, a viewport for phones, and words for every picture.
    assert 'lang="en"' in text and "width=device-width" in text and "prefers-color-scheme" in text
    pictures = re.findall(r"<svg[^>]*>", text)
    assert len(pictures) >= 4
    assert all('role="img"' in p and ("aria-label" in p) for p in pictures)
    assert 360 - outcome.right == text.count(" read as ") // 2 or 360 - outcome.right > 24
    assert "CC BY 4.0" in text and "Kaynak" in text
    for name in ("0.weight", "6.bias"):
        assert f">{name}<" in text


def test_digits_are_drawn_pixel_by_pixel():
    image = np.zeros((8, 8), dtype=np.float32)
    image[2, 5], image[7, 0] = 1.0, 0.5
    picture = digit_svg(image, "a <1>")
    assert picture.count("<path") == 2 and 'd="M5 2h1v1h-1z" fill-opacity="1.00"' in picture
    assert 'd="M0 7h1v1h-1z" fill-opacity="0.50"' in picture and "a &lt;1&gt;" in picture


def test_progress_is_plain_lines_off_a_terminal_and_one_moving_line_on_it():
    plain = io.StringIO()
    bar = ProgressBar(30, plain)
    for epoch in range(30):
        bar.update(epoch + 1, 30, 0.5, None)
        bar.update(epoch + 1, 30, 0.5, 0.9)
    bar.close()
    lines = plain.getvalue().splitlines()
    assert len(lines) == 10 and lines[-1].startswith("epoch 30/30") and "\r" not in plain.getvalue()

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    moving = Terminal()
    bar = ProgressBar(1, moving)
    bar.update(1, 2, 0.5, None)
    bar.update(2, 2, 0.4, None)
    bar.close()
    assert moving.getvalue().count("\n") == 1 and "2/2" in moving.getvalue().split("\r")[-1]


def test_the_command_prints_results_and_returns_its_verdict(few_images, tmp_path, capsys):
    out = str(tmp_path / "out")
    assert cli.main(["demo", "--epochs", "1", "--out", out, "--least", "0", "--json"]) == 0
    streams = capsys.readouterr()
    got = json.loads(streams.out)
    assert got["epochs"] == 1 and got["reload_identical"] is True and "epoch 1/1" in streams.err
    assert got["engine"].keys() <= torch.stats().keys()
    assert cli.main(["demo", "--epochs", "1", "--out", out, "--least", "1"]) == 1
    streams = capsys.readouterr()
    assert "below" in streams.err and "report.html" in streams.out


def test_wrong_usage(tmp_path, capsys):
    assert cli.main([]) == 2
    file = tmp_path / "file"
    file.write_text("")
    assert cli.main(["demo", "--epochs", "1", "--out", str(file)]) == 2
    assert "file" in capsys.readouterr().err
    for arguments in (["demo", "--epochs", "0"], ["demo", "--least", "2"], ["nothing"]):
        with pytest.raises(SystemExit) as stop:
            cli.main(arguments)
        assert stop.value.code == 2
    with pytest.raises(ValueError):
        run_demo(tmp_path, epochs=0)


def test_env_and_version(capsys, monkeypatch):
    monkeypatch.setenv("ADJOINT_DEBUG", "0")
    assert cli.main(["env", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["numpy"] == np.__version__ and facts["cores"] >= 1 and facts["threads"] >= 1
    assert facts["settings"]["ADJOINT_DEBUG"] == "0"
    assert cli.main(["env"]) == 0
    assert "ADJOINT_DEBUG=0" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stop:
        cli.main(["--version"])
    assert stop.value.code == 0 and f"adjoint {__version__}" in capsys.readouterr().out
