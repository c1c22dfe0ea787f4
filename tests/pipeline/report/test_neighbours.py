"""`longtail neighbours`: the page, its order and its bounds, by a real model on real images."""

import json
import shutil

import pytest

from tests import browser
from tests.e2e import runs
from tests.pipeline.report import test_drift


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Glyph identities in `query` and, other images of the same and of more, in `gallery`; a file is in both."""
    folder = tmp_path_factory.mktemp("images")
    spans = [runs.write_span(folder, number) for number in (1, 2)]
    names = sorted(path.name for path in spans[0].iterdir() if (spans[1] / path.name).is_dir())[:8]
    for name in names:
        shutil.copytree(spans[1] / name, folder / "gallery" / name)
    for name in names[:6]:
        (folder / "query" / name).mkdir(parents=True)
        for file in sorted((spans[0] / name).iterdir())[:3]:
            shutil.copy(file, folder / "query" / name / f"asked-{file.name}")
    copied = sorted((folder / "query" / names[0]).iterdir())[0]
    shutil.copy(copied, folder / "gallery" / names[0] / "copied.png")
    (folder / "query" / "stranger").mkdir()
    shutil.copy(copied, folder / "query" / "stranger" / "of-nobody.png")
    return folder


@pytest.fixture
def longtail(tiny_saved_model, images, monkeypatch, capfd, tmp_path):
    """Returns f(words) -> exit status, standard output, standard error; the page is in `page.html`."""

    def run(*words, model=tiny_saved_model):
        sides = ("--query", images / "query", "--gallery", images / "gallery", "--output", tmp_path / "page.html")
        status = runs.longtail(monkeypatch, "neighbours", "--model", model, *sides, *words)
        said = capfd.readouterr()
        return status, said.out, said.err

    return run


def page(tmp_path):
    return test_drift.Page((tmp_path / "page.html").read_text())


def test_each_query_has_its_nearest_with_score_colour_and_sign(longtail, tmp_path):
    status, said, _ = longtail("--top", 4)
    shown = page(tmp_path)
    found = [one for one in shown.all("figure") if one.get("class") in ("right", "wrong")]
    assert status == 0 and "19 queries" in said and len(found) == 19 * 4
    assert shown.text.count("✓ right") >= sum(one["class"] == "right" for one in found) > 0
    assert shown.text.count("✗ wrong") >= sum(one["class"] == "wrong" for one in found) > 0


def test_the_page_is_bounded_and_the_most_wrong_are_on_it(longtail, tmp_path):
    longtail("--top", 2, "--queries", 3)
    shown = page(tmp_path)
    ranks = [one for one in shown.all("div") if one.get("class") == "rank"]
    assert len(ranks) == 3 and "3 of 19" in " ".join(shown.text.split())
    assert "ahead of the right one by" in shown.text and "nobody of stranger is in the gallery" not in shown.text


def test_who_is_nobody_in_the_gallery_comes_last_and_is_told(longtail, tmp_path):
    longtail()
    text = page(tmp_path).text
    assert text.index("nobody of stranger is in the gallery") > text.rindex("ahead of any wrong one by")


def test_a_copy_of_the_querys_own_file_is_no_answer_but_under_another_name_it_is(longtail, tmp_path):
    longtail()
    queries, _, stranger = page(tmp_path).text.partition("Confusions")[0].partition("of-nobody.png")
    assert "1.000" not in queries and "1.000" in stranger


def test_json_tells_the_figures_and_who_is_taken_for_whom(longtail, tmp_path):
    _, said, _ = longtail("--json")
    told = json.loads(said)
    assert (told["queries"], told["strangers"]) == (19, 1) and told["page"] == str(tmp_path / "page.html")
    assert sum(one["taken"] for one in told["confusions"]) >= told["wrong"] > 0


@browser.needed
def test_a_browser_has_nothing_against_the_page_and_it_is_no_wider_than_a_phone(longtail, tmp_path):
    longtail("--queries", 5)
    assert browser.console(tmp_path / "page.html") == []
    assert browser.overflow(tmp_path / "page.html", 400) == 0


@browser.needed
@browser.axe_needed
def test_axe_finds_nothing_in_the_page(longtail, tmp_path):
    longtail("--queries", 5)
    assert browser.violations(tmp_path / "page.html") == []


@browser.needed
@browser.axe_needed
def test_axe_finds_what_is_wrong_with_a_page(longtail, tmp_path):
    longtail("--queries", 1)
    broken = tmp_path / "page.html"
    broken.write_text(broken.read_text().replace(' alt="', ' title="'))
    assert any(one.startswith("image-alt: ") for one in browser.violations(broken))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--query", "EMPTY"], "empty: no image"),
        (["--gallery", "nowhere"], "nowhere: no such folder"),
        (["--model", "EMPTY"], "no SavedModel"),
        (["--model", "nowhere"], "no SavedModel"),
        (["--output", "EMPTY/none/page.html"], "there is no folder"),
        (["--output", "EMPTY"], "cannot be written"),
    ],
)
def test_bad_usage_is_one_line_and_status_2(longtail, tmp_path, words, said):
    (tmp_path / "empty").mkdir()
    status, out, err = longtail(*(word.replace("EMPTY", str(tmp_path / "empty")) for word in words))
    lines = [line for line in err.splitlines() if line.startswith("longtail: error: ")]
    assert (status, out) == (2, "") and len(lines) == 1 and said in lines[0]


def test_a_hostile_name_is_shown_as_text_without_control_characters(longtail, images, tmp_path):
    name = "<img src=x onerror=alert(1)>\x1b[31m"
    asked = images / "query" / "stranger"
    shutil.copytree(asked, images / "query" / name)
    try:
        assert longtail()[0] == 0
    finally:
        shutil.rmtree(images / "query" / name)
    shown = page(tmp_path)
    assert "<img src=x onerror=alert(1)>" in shown.text and "\x1b" not in (tmp_path / "page.html").read_text()
    assert not any("onerror" in one for one in shown.all("img"))
