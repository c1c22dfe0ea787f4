"""What an exported model knows of classes: without its name no class of it is gone on from."""

import numpy as np

from longtail.models import files
from longtail.models.export import signatures
from longtail.models.export import starts


def test_a_name_that_is_forgotten_is_in_no_byte_and_the_others_keep_their_rows(tmp_path):
    path = tmp_path / signatures.CLASSES_FILE
    files.write(str(path), starts.pack(["anna", "bert", "carl"], {"prototypes": np.eye(3)}))
    starts.forget(str(tmp_path), {"bert"})
    assert b"bert" not in path.read_bytes()
    with np.load(path) as kept:
        assert kept["identities"].tobytes() == b'["anna", "", "carl"]'
        np.testing.assert_array_equal(kept["prototypes"], np.eye(3))


def test_a_model_without_names_is_left_as_it_is(tmp_path):
    starts.forget(str(tmp_path), {"bert"})
    assert not list(tmp_path.iterdir())
