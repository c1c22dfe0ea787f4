"""`longtail evaluate` by verification and identification, on real images, through the command's own parser."""


import numpy as np
import pytest
from PIL import Image

from longtail.models import errors

PEOPLE, IMAGES = 8, 4


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    """Eight people of four images each, laid out and named as LFW's are; images of one person are nearly the same."""
    random, root = np.random.default_rng(0), tmp_path_factory.mktemp("lfw")
    for person in range(PEOPLE):
        name = f"P{person}"
        (root / name).mkdir()
        base = random.integers(0, 200, (20, 20))
        for number in range(1, IMAGES + 1):
            pixels = (base + random.integers(0, 20, (20, 20))).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f"{name}_{number:04d}.png")
    return root


def test_all_pairs_of_a_folder_are_compared(run, faces):
    figures = run("--data", faces, "--protocol", "verification")
    assert (figures["same"], figures["different"]) == (8 * 6, 28 * 16)
    assert figures["smallest_fpr"] == 30 / figures["different"]
    assert figures["points"][0]["tpr"] is not None and figures["points"][1]["tpr"] is None


def test_a_file_that_lies_twice_in_a_folder_is_compared_once(run, faces, tmp_path):
    for name in ("P0", "P1"):
        (tmp_path / name).mkdir()
        for number in (1, 2):
            (tmp_path / name / f"{number}.png").write_bytes((faces / name / f"{name}_000{number}.png").read_bytes())
    (tmp_path / "P0" / "again.png").write_bytes((tmp_path / "P0" / "1.png").read_bytes())
    figures = run("--data", tmp_path, "--protocol", "verification")
    assert (figures["same"], figures["different"]) == (2, 4)


@pytest.fixture
def lfw_pairs(tmp_path):
    """LFW's list of two folds with three pairs of either kind."""
    lines = ["2\t3"]
    for fold in (0, 4):
        lines += [f"P{fold + i}\t1\t{i + 2}" for i in range(3)]
        lines += [f"P{fold}\t{i + 1}\tP{fold + 1 + i}\t1" for i in range(3)]
    (tmp_path / "pairs.txt").write_text("\n".join(lines))
    return tmp_path / "pairs.txt"


def test_lfws_list_gives_an_accuracy_over_its_folds(run, faces, lfw_pairs):
    figures = run("--data", faces, "--protocol", "verification", "--pairs", lfw_pairs)
    assert (figures["same"], figures["different"], figures["folds"]) == (6, 6, 2)
    assert figures["accuracy"] == 1.0


def test_a_csv_of_paths_is_taken(run, faces, tmp_path):
    (tmp_path / "pairs.csv").write_text(
        "left,right\nP0/P0_0001.png,P0/P0_0002.png\nP0/P0_0001.png,P1/P1_0001.png\n"
    )
    figures = run("--data", faces, "--protocol", "verification", "--pairs", tmp_path / "pairs.csv")
    assert (figures["same"], figures["different"], figures["auc"]) == (1, 1, 1.0)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("P0/none.png,P1/P1_0001.png,0", "line 1: no image 'P0/none.png' in --data"),
        ("P0/P0_0001.png,P1/P1_0001.png,1", "line 1: says the same, but the data has 'P0' and 'P1'"),
        ("P0/P0_0001.png", "line 1: .* is no left,right"),
    ],
)
def test_a_pair_that_cannot_be_is_named(run, faces, tmp_path, line, message):
    (tmp_path / "pairs.csv").write_text(line)
    with pytest.raises(errors.UsageError, match=message):
        run("--data", faces, "--protocol", "verification", "--pairs", tmp_path / "pairs.csv")


def test_a_list_that_is_not_there_is_bad_usage(run, faces):
    with pytest.raises(errors.UsageError, match="--pairs /nowhere: cannot be read"):
        run("--data", faces, "--protocol", "verification", "--pairs", "/nowhere")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--data", "x", "--pairs", "p"), "pairs are for --protocol verification"),
        (("--query", "x", "--gallery", "y", "--protocol", "verification"), "so there is no gallery"),
        (("--data", "x", "--protocol", "identify"), "did you mean 'identification'"),
    ],
)
def test_arguments_that_do_not_go_together_are_bad_usage(run, arguments, message):
    with pytest.raises(errors.UsageError, match=message):
        run(*arguments)


def test_every_other_identity_is_enrolled_and_the_rest_are_strangers(run, faces):
    figures = run("--data", faces, "--protocol", "identification")
    assert (figures["gallery"], figures["gallery_identities"]) == (4 * 2, 4)
    assert (figures["probes"], figures["impostors"], figures["rank1"]) == (4 * 2, 4 * 4, 1.0)


def test_queries_of_nobody_in_the_gallery_are_strangers_and_its_own_files_ask_nothing(run, faces, tmp_path):
    for name in ("P0", "P1"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").write_bytes((faces / name / f"{name}_0001.png").read_bytes())
    figures = run("--query", faces, "--gallery", tmp_path, "--protocol", "identification")
    assert (figures["gallery"], figures["probes"], figures["impostors"]) == (2, 2 * 3, 6 * 4)


def test_the_table_has_a_row_for_each_rate(run, faces):
    shown = run("--data", faces, "--protocol", "verification", as_json=False)
    assert "FPR, %" in shown and "TPR, %" in shown and "0.0001" in shown
