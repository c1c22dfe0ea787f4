"""TFX components. Artifact types are importable from here, since Kubeflow allows a type's path one dot only."""

import importlib
from typing import Any


def __getattr__(name: str) -> Any:
    if not name[:1].isupper():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.artifacts"), name)
