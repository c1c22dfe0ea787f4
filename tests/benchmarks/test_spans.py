"""The story of deliveries: what each brings, and what none does. The runs are the benchmark's own business."""

import pathlib

import numpy as np
import PIL.Image
import pytest

from longtail.benchmarks import spans
from longtail.components import ledger
from longtail.models import errors
from longtail.models import files

GROUPS = 15


@pytest.fixture
def data(tmp_path):
    """15 groups of two identities of two images, all white."""
    for group in range(GROUPS):
        for identity in range(2):
            folder = tmp_path / "data" / f"group {group:02d}" / f"{identity}"
            folder.mkdir(parents=True)
            for image in range(2):
                pixels = np.full([20, 20], 255 - group, np.uint8)
                PIL.Image.fromarray(pixels).save(folder / f"{image}.png")
    return tmp_path / "data"


@pytest.fixture
def story(data, tmp_path):
    return spans.Story(str(data), str(tmp_path / "story"))


def groups(story, name):
    """Of the identities whose folders lie in a folder of the story."""
    return {path.parent.name for path in pathlib.Path(story.folder, name).glob("*/*")}


def test_every_group_comes_once_or_never(story):
    names = ["future", *(f"span-{number}" for number in range(1, spans.DELIVERIES + 1))]
    found = [groups(story, name) for name in names]
    assert [len(each) for each in found] == [5, 2, 2, 2, 2, 2]
    assert len(set().union(*found)) == GROUPS


def test_one_delivery_has_damaged_files_and_one_is_inverted(story):
    def bright(path):
        try:
            return PIL.Image.open(path).convert("L").getextrema()[0] > 127
        except OSError:
            return None

    told = {}
    for number in range(1, spans.DELIVERIES + 1):
        paths = pathlib.Path(f"{story.folder}/span-{number}").rglob("*.png")
        told[number] = {bright(path) for path in paths}
    assert told == {1: {True}, 2: {True}, 3: {True, None}, 4: {False}, 5: {True}}


def test_what_the_first_delivery_held_out_is_scored_ever_after(story, tmp_path):
    registry = str(tmp_path / "registry")
    names = sorted(groups(story, "span-1"))
    met = [[f"{names[0]}/0", ledger.TRAIN, 1], [f"{names[0]}/1", ledger.HELD_OUT, 1], ["later/0", ledger.HELD_OUT, 2]]
    files.write_json(f"{registry}/{ledger.FILE}", {"salt": "", "identities": met, "withdrawn": {}})
    for _ in range(2):
        story.take_early(registry)
    assert groups(story, "early") == {names[0]}


def test_too_few_groups_are_refused(data, tmp_path):
    with pytest.raises(errors.UsageError, match="1 groups of identities, 15 are needed"):
        spans.Story(f"{data}/group 00", str(tmp_path / "story"))
