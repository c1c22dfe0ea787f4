"""longtail: embedding models from long-tailed image data. Every room of the house is imported as `longtail.<room>`.

In a checkout the rooms (`models/`, `components/`, ...) lie beside this folder, in an installed package below it. The
types of artifacts are named `longtail.<Type>`, since Kubeflow allows the name of a type one dot only.
"""

import importlib
import pathlib
from typing import Any

__version__ = "0.1.0"

if not pathlib.Path(__file__).with_name("models").is_dir():
    __path__.append(str(pathlib.Path(__file__).parents[1]))


def __getattr__(name: str) -> Any:
    if not name[:1].isupper():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("longtail.components.artifacts"), name)
