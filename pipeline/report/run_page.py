"""One HTML page of a run, from its data to its model: what `templates/run.html` is filled in with."""

import os
import urllib.parse
import zlib
from typing import Any

from longtail.models import errors
from longtail.models import files
from longtail.pipeline.report import drift_page
from longtail.pipeline.report import drift_view
from longtail.pipeline.report import pages
from longtail.pipeline.report import run_data
from longtail.pipeline.report import run_scores
from longtail.pipeline.report import run_view

_CARD = {"use": "Use", "limits": "Limits", "data_licence": "Licence of the data"}  # of a recipe's `card`


def write(root: str, output: str) -> run_view.Run:
    """Writes the page of the last run in a root, and in `drift` beside it that of its drift gate, which it links.

    Args:
      root: of the run.
      output: the file to write; its folder is there.

    Returns:
      The run.

    Raises:
      errors.UsageError: there is no run, or the file cannot be written.
      errors.WorkError: a file of the run is damaged.
    """
    run = run_view.load(root)
    files.write(output, render(run, output))
    return run


def render(run: run_view.Run, output: str) -> str:
    """The page; `output`, where it will lie, decides how it links to another."""
    recipe, state = run.about.get("recipe", {}), verdict(run)
    name = recipe.get("name", run.pipeline)
    return pages.render(
        "run.html",
        title=f"Run of {name}, span {run.about.get('span', '?')}",
        run=run,
        state=state,
        data=run_data.section(run),
        gate=_gate(run, output),
        training=run_scores.training(run),
        scores=run_scores.scores(run),
        cost=_cost(run),
        recipe=run_view.flat(recipe),
        card=[(title, key, recipe.get("card", {}).get(key)) for key, title in _CARD.items()],
        version=_version(run),
        hue=lambda identity: zlib.crc32(identity.encode(errors="surrogateescape")) % 360,
    )


def verdict(run: run_view.Run) -> dict[str, str]:
    """What became of a run: `kind` (a class of the page's style), `said` and `why`."""
    if run.summary is None:
        failed = [step.name for step in run.steps.values() if step.state not in ("complete", "cached")]
        where = f" in {failed[-1]}" if failed else ""
        why = run.about.get("stopped") or "it was cut off, or is still at work"
        return {"kind": "refused", "said": f"This run stopped{where}, and no model came of it:", "why": why}
    if run.summary["blessed"]:
        said = f"The model was blessed and pushed as version {run.summary['version']}."
        return {"kind": "accepted", "said": said, "why": ""}
    said = "The model was not blessed, and nothing was pushed:"
    return {"kind": "refused", "said": said, "why": run.summary["reason"]}


def _gate(run: run_view.Run, output: str) -> dict[str, Any] | None:
    """What the gate said of the span, and a link to its own page; None where it did not judge in this run."""
    if "DriftGate" not in run.steps or not run.about:
        return None
    try:
        place = drift_view.find(run.root, run.about["recipe"]["name"], run.about["span"])
        view = drift_view.load(place)
    except errors.UsageError:
        return None  # it failed before it judged
    if not _is_of(run, view.report):
        return None
    link = os.path.join("drift", f"{place.recipe}-span-{place.span}.html")
    files.write(os.path.join(os.path.dirname(os.path.abspath(output)), link), drift_page.render(view))
    far = [row for row in view.report["features"] if row["verdict"] != "ok"]
    return {
        "verdict": view.report["verdict"],
        "headline": drift_page.headline(view.report),
        "far": far,
        "compared": len(view.report["features"]),
        "link": urllib.parse.quote(os.fsencode(link)),
    }


def _is_of(run: run_view.Run, report: dict[str, Any]) -> bool:
    """Whether the registry's report on the span, which the last judgement of any run replaces, is this run's."""
    blessing = run.read("DriftGate", "blessing", "blessing.json")
    if blessing is None:
        return report["verdict"] == "refused" and "stopped by the drift gate" in (run.about.get("stopped") or "")
    return all(report.get(key) == blessing.get(key) for key in ("kept", "verdict", "baseline_span", "features"))


def _cost(run: run_view.Run) -> dict[str, Any]:
    longest = max((step.seconds for step in run.steps.values()), default=0) or 1
    rows = [
        {"name": step.name, "state": step.state, "seconds": step.seconds, "share": 100 * step.seconds / longest}
        for step in run.steps.values()
    ]
    return {"rows": rows, "total": sum(row["seconds"] for row in rows)}


def _version(run: run_view.Run) -> dict[str, Any]:
    """Which version this run pushed, and which one it was compared with; "" for none."""
    baseline = run.output("BaselineFinder", "baseline_model")
    found = baseline.properties if baseline else {}
    summary = run.summary or {}
    return {
        "pushed": summary.get("version") or "",
        "served": (summary.get("served") or {}).get("version") or "",
        "baseline": found["version"] if found.get("found") else "",
    }
