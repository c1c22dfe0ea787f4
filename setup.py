"""Puts the rooms, which lie at the top of the checkout, below the package `longtail`; the rest is in pyproject.toml."""

import setuptools

ROOMS = ("models", "components", "pipeline", "serving", "benchmarks")

setuptools.setup(
    packages=["longtail"]
    + [f"longtail.{name}" for room in ROOMS for name in setuptools.find_packages(include=[room, f"{room}.*"])],
    package_dir={"longtail": "longtail", **{f"longtail.{room}": room for room in ROOMS}},
)
