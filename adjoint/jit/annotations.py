"""The types that TorchScript knows, which are Python's."""

from typing import Any, Dict, List, Optional, Tuple, Union  # noqa: UP035 - the names by which programs import them

__all__ = ["Any", "Dict", "List", "Optional", "Tuple", "Union"]
