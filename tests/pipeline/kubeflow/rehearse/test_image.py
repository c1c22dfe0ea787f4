"""A fresh process of a rehearsal has this project as an image would hold it, and no checkout."""

import pathlib
import subprocess

import longtail
from longtail.pipeline.kubeflow.rehearse import image


def test_the_environment_holds_the_project_and_knows_no_checkout(tmp_path):
    executables = image.prepare(str(tmp_path / "image"))
    script = (
        "import importlib.util, sys\n"
        "from longtail.pipeline import recipe\n"
        "rooms = [f'longtail.{room}' for room in ('models', 'components', 'pipeline', 'serving')]\n"
        "print([importlib.util.find_spec(name).origin for name in ('longtail', *rooms)])\n"
        "for it in recipe.names(), sys.path, sys.meta_path, importlib.util.find_spec('models'): print(it)"
    )
    done = subprocess.run(
        [f"{executables}/python", "-c", script],
        cwd=tmp_path,
        env=image.environment(executables, str(tmp_path)),
        capture_output=True,
        text=True,
        check=True,
    )
    origins, recipes, path, finders, tests = done.stdout.splitlines()
    checkout = pathlib.Path(longtail.__file__).parent.parent
    assert origins.count(str(tmp_path / "image")) == 5 and "glyphs" in recipes
    # That of an installation in place is a finder, not a folder of the path.
    assert repr(str(checkout)) not in path and "editable" not in finders and tests == "None"
