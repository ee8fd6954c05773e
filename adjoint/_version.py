"""The version, in one place: `pyproject.toml` reads it from here. And that of PyTorch whose names and behaviour are followed, for
which programs ask before they use what came with it."""

__version__ = "0.1.0"
PYTORCH = "2.13.0"
