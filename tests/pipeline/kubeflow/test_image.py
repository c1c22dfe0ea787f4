"""A fresh process of a rehearsal has this project as an image would hold it, and no checkout."""

import pathlib
import subprocess

import models
from pipeline.kubeflow import image


def test_the_environment_holds_the_project_and_knows_no_checkout(tmp_path):
    executables = image.prepare(str(tmp_path / "image"))
    script = "import sys, models\nfrom pipeline import recipe\nfor it in models, recipe.names(), sys.path: print(it)"
    done = subprocess.run(
        [f"{executables}/python", "-c", script],
        cwd=tmp_path,
        env=image.environment(executables, str(tmp_path)),
        capture_output=True,
        text=True,
        check=True,
    )
    where, recipes, path = done.stdout.splitlines()
    checkout = pathlib.Path(models.__file__).parent.parent
    assert str(tmp_path / "image") in where and "glyphs" in recipes
    assert repr(str(checkout)) not in path
