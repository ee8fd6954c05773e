"""What programs ask that may run on other machines: accelerators, several processes, fetched parameters."""

from __future__ import annotations

import hashlib
import os
import threading
from functools import partial
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path

import numpy as np
import pytest

import adjoint as torch
from adjoint import distributed as dist
from adjoint.jit.annotations import List


def test_there_is_one_process() -> None:
    assert not dist.is_available() and not dist.is_initialized() and not dist.is_torchelastic_launched()
    with pytest.raises(RuntimeError, match="one process"):
        dist.init_process_group("gloo")
    with pytest.raises(AttributeError, match="elastic"):
        dist.elastic  # noqa: B018
    assert dist.ReduceOp.SUM is not dist.ReduceOp.MAX and dist.group.WORLD is None
    assert not isinstance(torch.nn.Linear(1, 1), torch.nn.parallel.DistributedDataParallel)


@pytest.mark.parametrize("library", ["adjoint", "torch"])
def test_without_a_group(library: str) -> None:
    t = pytest.importorskip(library)
    d = pytest.importorskip(f"{library}.distributed")
    for call in (
        d.get_rank,
        d.get_world_size,
        d.barrier,
        lambda: d.all_reduce(t.ones(1)),
        lambda: d.broadcast(t.ones(1), 0),
        lambda: t.nn.parallel.DistributedDataParallel(t.nn.Linear(1, 1)),
    ):
        with pytest.raises(ValueError, match="Default process group has not been initialized"):
            call()


def test_there_is_no_accelerator() -> None:
    assert not torch.accelerator.is_available() and torch.accelerator.device_count() == 0
    assert torch.accelerator.current_accelerator() is None and torch.version.cuda is None
    assert torch.version.__version__ == torch.__version__
    with pytest.raises(RuntimeError, match="is_available"):
        torch.accelerator.synchronize()


def test_decorators_and_annotations() -> None:
    assert torch.fx.wrap(len) is len and List is __import__("typing").List
    with pytest.raises(RuntimeError, match="global function"):
        torch.fx.wrap(3)
    assert not isinstance(torch.ones(1), torch.fx.Proxy)
    with pytest.raises(RuntimeError, match="Tracer.*as it runs"):
        torch.fx.Tracer()
    torch._assert(True, "fine")
    with pytest.raises(AssertionError, match="^wrong$"):
        torch._assert(torch.ones(1).sum() > 2, "wrong")
    assert not torch.is_autocast_cpu_enabled() and torch.get_autocast_cpu_dtype() is torch.bfloat16
    assert torch.get_autocast_gpu_dtype() is torch.float16


def test_fetched_parameters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = torch.nn.Linear(2, 3).state_dict()
    served, home = tmp_path / "served", tmp_path / "home"
    served.mkdir()
    torch.io.save_file(state, served / "layer.safetensors")
    content = (served / "layer.safetensors").read_bytes()
    beginning = hashlib.sha256(content).hexdigest()[:8]
    (served / f"layer-{beginning}.safetensors").write_bytes(content)
    (served / "layer-00000000.safetensors").write_bytes(content)
    asked: list[str] = []

    class Files(SimpleHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            asked.append(self.path)

    server = HTTPServer(("127.0.0.1", 0), partial(Files, directory=str(served)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    at = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("TORCH_HOME", str(home))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    try:
        for _ in range(2):
            found = torch.hub.load_state_dict_from_url(f"{at}/layer-{beginning}.safetensors", check_hash=True)
            assert list(found) == list(state)
            for name, value in found.items():
                np.testing.assert_array_equal(value.numpy(), state[name].numpy())
        assert len(asked) == 1 and os.listdir(home / "hub" / "checkpoints") == [f"layer-{beginning}.safetensors"]
        with pytest.raises(RuntimeError, match="invalid hash value"):
            torch.hub.load_state_dict_from_url(f"{at}/layer-00000000.safetensors", check_hash=True)
        assert len(os.listdir(home / "hub" / "checkpoints")) == 1
        with pytest.raises(OSError):
            torch.hub.load_state_dict_from_url(f"{at}/none.safetensors")
        torch.hub.set_dir(tmp_path / "elsewhere")
        assert torch.hub.get_dir() == str(tmp_path / "elsewhere")
    finally:
        torch.hub._dir = None
        server.shutdown()
        server.server_close()
