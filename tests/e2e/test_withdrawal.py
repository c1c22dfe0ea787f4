"""Who is withdrawn is in nothing that is written afterwards: every byte of it is searched."""

import contextlib
import gzip
import hashlib
import json
import pathlib
import shutil

import pytest
from ml_metadata.metadata_store import metadata_store
from ml_metadata.proto import metadata_store_pb2

from longtail.components import registry as registry_lib
from longtail.components.data import identity_counts
from longtail.components.data import samples
from tests.e2e import runs

SPLITS = {"trained": "train", "held out": "eval"}


def files_of(root):
    """Path -> what tells that a file was written since."""
    return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in root.rglob("*") if path.is_file()}


def content(path):
    data = path.read_bytes()
    return data + gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data


def traces(data, names):
    """Name, digests and bytes of every image of some identities, in all spans."""
    found = {name.encode() for name in names}
    for path in (path for name in names for path in data.glob(f"*/{name}/*.png")):
        found |= {path.read_bytes(), hashlib.sha256(path.read_bytes()).hexdigest().encode()}
    return found


@pytest.fixture(scope="module")
def withdrawn(finished, tmp_path_factory):
    """A root of span 1 with a trained and a held-out identity withdrawn, which span 3 then brings again."""
    folder = tmp_path_factory.mktemp("withdrawal")
    root, data = folder / "root", finished / "data"
    shutil.copytree(finished / "kept", root)
    registry = str(root / "registry" / "small")
    counts = identity_counts.read(registry_lib.accepted_entry(registry, 1)["examples"])
    names = {side: max(counts[split], key=counts[split].get) for side, split in SPLITS.items()}
    assert all((data / "span-3" / name).is_dir() for name in names.values())
    before, said = files_of(root), {}
    with pytest.MonkeyPatch.context() as monkeypatch:
        for side, name in names.items():
            words = ("spans", "withdraw", "--root", root, "--identity", name, "asked us to")
            said[side] = captured(monkeypatch, folder / f"{side}.json", *words, "--json")
        words = ("run", "--recipe", runs.RECIPE, "--data", data / "span-{SPAN}", "--root", root, "--span", 3)
        said["run"] = captured(monkeypatch, folder / "run.json", *words, "--set", "training.epochs=1", "--json")
    written = [path for path, mark in files_of(root).items() if before.get(path) != mark]
    return root, names, said, written, traces(data, names.values())


def captured(monkeypatch, path, *words):
    """What a command that ends well prints, as JSON."""
    with open(path, "w") as printed, contextlib.redirect_stdout(printed):
        assert runs.longtail(monkeypatch, *words) == 0
    return json.loads(path.read_text())


def test_no_file_written_afterwards_holds_a_name_a_digest_or_an_image(withdrawn):
    root, names, _, written, found = withdrawn
    assert len(written) > 50 and len(found) > 2 * (1 + 2 * 3)
    held = {path for path in written for trace in found if trace in content(path)}
    assert not held


def test_the_search_finds_what_was_written_before(withdrawn, finished):
    _, _, _, _, found = withdrawn
    examples = pathlib.Path(registry_lib.accepted_entry(str(finished / "kept" / "registry" / "small"), 1)["examples"])
    shards = b"".join(content(path) for path in sorted(examples.rglob("*.gz")))
    assert sum(trace in shards for trace in found) > len(found) / 3


def test_the_models_and_galleries_that_still_hold_them_are_told(withdrawn, finished):
    _, _, said, _, _ = withdrawn
    [version] = (int(path.name) for path in (finished / "kept" / "models" / "small").iterdir())
    assert (said["trained"]["models"], said["trained"]["galleries"]) == ([version], [])
    assert (said["held out"]["models"], said["held out"]["galleries"]) == ([], [version])
    assert said["trained"]["unknown"] == [] and len(said["trained"]["examples"]) == 1


def test_the_model_is_trained_on_both_spans_all_the_same_and_scored_on_each(withdrawn):
    _, names, said, _, _ = withdrawn
    summary = said["run"]
    assert summary["window"] == [1, 3]
    assert [one["span"] for one in summary["by_span"]] == [1, 3]
    assert all(one["candidate"]["mAP"] and one["baseline"]["mAP"] for one in summary["by_span"])


def test_hashes_of_a_withdrawn_name_are_in_no_table_that_is_kept(withdrawn):
    root, names, _, _, _ = withdrawn
    tables = [samples.read_table(str(path.parent)) for path in root.glob(f"registry/small/**/{samples.TABLE_FILE}")]
    assert len(tables) == 2
    for name in names.values():
        mark = samples.hash_of(name.encode())
        assert not any(mark in table.names or mark in table.identity for table in tables)


def test_the_withdrawal_is_in_ml_metadata_without_the_name(withdrawn):
    root, names, _, _, _ = withdrawn
    config = metadata_store_pb2.ConnectionConfig()
    config.sqlite.filename_uri = str(root / "metadata.sqlite")
    contexts = metadata_store.MetadataStore(config).get_contexts_by_type("longtail.Withdrawal")
    assert [one.properties["reason"].string_value for one in contexts] == ["asked us to"] * 2
    assert not any(name in str(contexts) for name in names.values())
