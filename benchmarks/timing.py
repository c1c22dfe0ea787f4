"""How benchmarks time on a shared, noisy machine: side by side, in turns, and compared round by round."""

import os
import platform
import time
from collections.abc import Callable
from collections.abc import Mapping

import numpy as np


def in_turns(works: Mapping[str, Callable[[], object]], rounds: int, calls: int = 1) -> dict[str, np.ndarray]:
    """Seconds a call of each work, one figure a round; every round has an order of its own, so noise meets all alike.

    Each work must have ended when it returns; one round before the first is not counted.
    """
    names = list(works)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    rng = np.random.default_rng(0)
    for turn in range(-1, rounds):
        for name in rng.permutation(names):
            started = time.perf_counter()
            for _ in range(calls):
                works[name]()
            if turn >= 0:
                seconds[name].append((time.perf_counter() - started) / calls)
    return {name: np.array(values) for name, values in seconds.items()}


def row(
    name: str,
    value: float | None,
    unit: str,
    ratio: float | None = None,
    target: float | None = None,
    at_least: bool = False,
) -> dict[str, object]:
    """One result: `ratio` (or, without one, `value`) is to be at most `target`, or at least.

    `ok` is None where nothing is asked.
    """
    reached = value if ratio is None else ratio
    sign = -1.0 if at_least else 1.0
    return {
        "name": name,
        "value": None if value is None else round(value, 4),
        "unit": unit,
        "ratio": None if ratio is None else round(ratio, 4),
        "target": target,
        "ok": None if target is None or reached is None else bool(sign * reached <= sign * target),
    }


def machine() -> dict[str, object]:
    """What the figures were measured on, and how busy it was."""
    cpu = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            models = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
        cpu = models[0] if models else cpu
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
    }
