"""What killed runs left goes when the next one begins; what is known, served or at hand stays."""

import pytest
from ml_metadata.proto import metadata_store_pb2
from tfx.orchestration import metadata

from longtail.pipeline.local import leftovers
from longtail.pipeline.local import run

STATE = metadata_store_pb2.Execution


@pytest.fixture
def root(tmp_path):
    """A root with the steps 1 complete, 2 killed, 3 failed and 4 from the cache; models 7 and 9, galleries 7 and 8."""
    with metadata.Metadata(metadata.sqlite_metadata_connection_config(str(tmp_path / "metadata.sqlite"))) as handle:
        kind = handle.store.put_execution_type(metadata_store_pb2.ExecutionType(name="Trainer"))
        states = (STATE.COMPLETE, STATE.RUNNING, STATE.FAILED, STATE.CACHED)
        handle.store.put_executions([STATE(type_id=kind, last_known_state=state) for state in states])
    for number in range(1, 5):
        (tmp_path / f"artifacts/Trainer/model/{number}").mkdir(parents=True)
        (tmp_path / f"artifacts/Trainer/.system/executor_execution/{number}/.temp").mkdir(parents=True)
    for name in ("models/glyphs/7", "models/glyphs/9", "galleries/glyphs/7", "galleries/glyphs/8"):
        (tmp_path / name).mkdir(parents=True)
    return tmp_path


def clear(root):
    return {folder.removeprefix(f"{root}/") for folder in leftovers.clear(str(root), run.places(str(root), "glyphs"))}


def test_steps_that_are_not_known_as_complete_leave_nothing(root):
    assert {"artifacts/Trainer/model/2", "artifacts/Trainer/model/3"} <= clear(root)
    assert sorted(path.name for path in (root / "artifacts/Trainer/model").iterdir()) == ["1", "4"]


def test_no_step_keeps_its_temporary_folder(root):
    clear(root)
    assert not list(root.rglob(".temp"))
    assert sorted(path.name for path in (root / "artifacts/Trainer/.system/executor_execution").iterdir()) == ["1", "4"]


def test_a_gallery_goes_with_its_model_alone(root):
    assert "galleries/glyphs/8" in clear(root)
    assert [path.name for path in (root / "galleries/glyphs").iterdir()] == ["7"]


def test_no_gallery_goes_where_no_model_is_at_hand(root):
    (root / "models").rename(root / "elsewhere")
    clear(root)
    assert len(list((root / "galleries/glyphs").iterdir())) == 2


def test_what_is_cleared_once_is_clear(root):
    clear(root)
    assert not clear(root)


def test_a_root_that_is_new_has_nothing_to_clear(tmp_path):
    assert not clear(tmp_path)
    assert not list(tmp_path.iterdir())
