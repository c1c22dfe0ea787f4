"""The notebook that a reader is shown: it runs, what it says is so, and it was committed with its pictures."""

import ast
import base64
import copy
import pathlib

import nbclient
import nbformat
import pytest

EXAMPLES = pathlib.Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture(scope="module")
def committed():
    return nbformat.read(EXAMPLES / "quickstart.ipynb", as_version=4)


@pytest.fixture(scope="module")
def executed(committed, tmp_path_factory):
    """The notebook run from top to bottom in a folder of its own; a cell that fails raises here."""
    where = {"metadata": {"path": str(tmp_path_factory.mktemp("quickstart"))}}
    notebook = copy.deepcopy(committed)
    return nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3", resources=where).execute()


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def text(notebook):
    outputs = [output for cell in code(notebook) for output in cell.outputs]
    return "".join(output.get("text", "") or output.get("data", {}).get("text/plain", "") + "\n" for output in outputs)


def pictures(notebook):
    data = [output.get("data", {}) for cell in code(notebook) for output in cell.outputs]
    return [base64.b64decode(each["image/png"]) for each in data if "image/png" in each]


def scores(notebook):
    line = next(cell for cell in code(notebook) if "evaluate_retrieval" in cell.source)
    return ast.literal_eval(line.outputs[-1].data["text/plain"])


def test_the_embedder_ranks_far_better_than_the_pixels(executed):
    assert scores(executed)["embedder"]["mAP"] > 2.0 * scores(executed)["pixels"]["mAP"]


def test_the_server_answers_as_the_model_in_process_and_refuses_what_is_no_image(executed):
    assert "status [0, 0, 0, 1] by version 1" in text(executed)
    assert "as in process: True" in text(executed)


def test_it_was_committed_as_it_ran_from_top_to_bottom(committed):
    assert [cell.execution_count for cell in code(committed)] == list(range(1, len(code(committed)) + 1))
    assert scores(committed)["embedder"]["mAP"] > scores(committed)["pixels"]["mAP"]


def test_its_pictures_are_committed_and_small(committed, executed):
    assert len(pictures(committed)) == len(pictures(executed)) == 2
    assert sum(map(len, pictures(committed))) < 300_000


def test_it_uses_public_names_alone(committed):
    for cell in code(committed):
        for node in ast.walk(ast.parse(cell.source)):
            names = [getattr(node, key, "") for key in ("id", "attr", "name", "module")]
            assert not [name for name in names if isinstance(name, str) and "._" in f".{name}"], ast.unparse(node)


def test_its_links_lead_somewhere(committed):
    for cell in committed.cells:
        if cell.cell_type == "markdown":
            for link in (part.split(")")[0] for part in cell.source.split("](")[1:]):
                assert (EXAMPLES / link).exists(), link
