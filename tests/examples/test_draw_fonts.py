"""The example that draws characters in one's own fonts, here in those that matplotlib ships."""

import pathlib
import shutil

import matplotlib
import numpy as np
import pytest
from PIL import Image

from examples import draw_fonts

FONTS = str(pathlib.Path(matplotlib.get_data_path()) / "fonts" / "ttf")


def drawn(folder, *arguments):
    draw_fonts.main(["--fonts", FONTS, "--out", str(folder), *arguments])
    return {path.relative_to(folder).as_posix(): np.asarray(Image.open(path)) for path in folder.rglob("*.png")}


def test_every_identity_has_as_many_images_as_asked_each_of_another_font(tmp_path):
    images = drawn(tmp_path / "out", "--identities", "6", "--images", "8", "--size", "24")
    assert len(images) == 6 * 8 and len({name.split("/")[0] for name in images}) == 6
    assert all(pixels.shape == (24, 24) and pixels.dtype == np.uint8 for pixels in images.values())
    assert len({pixels.tobytes() for pixels in images.values()}) == len(images)


def test_the_same_seed_draws_the_same_and_another_seed_others(tmp_path):
    few = ("--identities", "2", "--images", "4")
    one, two, other = (drawn(tmp_path / name, *few, *more) for name, more in
                       (("a", ()), ("b", ()), ("c", ("--seed", "8"))))  # fmt: skip
    assert one.keys() == two.keys() and all((one[name] == two[name]).all() for name in one)
    assert one.keys() != other.keys()


@pytest.mark.parametrize("keep", [0, 40, 0.3, 0.9])
def test_a_damaged_font_is_told_of_and_left_out(tmp_path, capsys, keep):
    fonts = tmp_path / "fonts"
    fonts.mkdir()
    for name in ("DejaVuSans.ttf", "DejaVuSerif.ttf"):
        shutil.copy(pathlib.Path(FONTS) / name, fonts)
    whole = (fonts / "DejaVuSans.ttf").read_bytes()
    (fonts / "bad.ttf").write_bytes(whole[: keep if isinstance(keep, int) else int(keep * len(whole))])
    draw_fonts.main(["--fonts", str(fonts), "--out", str(tmp_path / "out"), "--identities", "2", "--images", "2"])
    assert len(list((tmp_path / "out").rglob("*.png"))) == 4
    told = capsys.readouterr().err.splitlines()
    assert told and all(line.startswith(str(fonts / "bad.ttf")) and "left out" in line for line in told)


def test_a_folder_to_be_made_in_none_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        drawn(tmp_path / "none" / "out")
    assert f"{tmp_path / 'none'} is no folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--images", "99"), "0 characters are in 99 fonts; lower --images or --identities"),
        (("--fonts", "none"), "--fonts none: no such folder"),
        (("--images", "0"), "argument --images: '0' is no whole number of at least 1"),
        (("--size", "big"), "argument --size: 'big' is no whole number of at least 8"),
        ((), "is there already"),
    ],
)
def test_what_cannot_be_is_told_in_one_line_and_nothing_is_drawn(tmp_path, capsys, arguments, told):
    folder = tmp_path / "out" if arguments else tmp_path
    with pytest.raises(SystemExit) as end:
        drawn(folder, *arguments)
    assert end.value.code == 2 and told in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
