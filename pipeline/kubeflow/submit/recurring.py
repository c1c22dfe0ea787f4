"""A recurring run: Kubeflow Pipelines itself starts a run of a compiled pipeline at the times of a cron expression."""

import dataclasses
import re
from typing import Any

from longtail.models import errors
from longtail.pipeline.kubeflow import ir
from longtail.pipeline.kubeflow.submit import kfp_api
from longtail.pipeline.kubeflow.submit import submission

# As github.com/robfig/cron 1.2 has them, by which Kubeflow's API server reads a schedule: name, least, most, names.
_FIELDS: tuple[tuple[str, int, int, tuple[str, ...]], ...] = (
    ("seconds", 0, 59, ()),
    ("minutes", 0, 59, ()),
    ("hours", 0, 23, ()),
    ("day of the month", 1, 31, ()),
    ("month", 1, 12, ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")),
    ("day of the week", 0, 6, ("sun", "mon", "tue", "wed", "thu", "fri", "sat")),
)
_PART = re.compile(r"(?:[*?]|(\w+)(?:-(\w+))?)(?:/(\d+))?", re.ASCII)
_SPAN = "{SPAN"


def check_cron(cron: str) -> str:
    """The expression, its fields with one blank between.

    Raises:
      errors.UsageError: it has not six fields, or one of them is out of range.
    """
    fields = cron.split()
    if len(fields) == 5:
        raise errors.UsageError(
            f"--recurring {cron!r}: Kubeflow's cron begins with seconds, and would take the first of five fields for "
            f"them; write {' '.join(['0', *fields])!r}"
        )
    if len(fields) != len(_FIELDS):
        raise errors.UsageError(
            f"--recurring {cron!r}: give six fields, {', '.join(name for name, *_ in _FIELDS)}, such as '0 0 3 * * *' "
            f"for every day at three; it has {len(fields)}"
        )
    for text, (name, least, most, names) in zip(fields, _FIELDS, strict=True):
        if not all(_fits(part, least, most, names) for part in text.split(",")):
            raise errors.UsageError(
                f"--recurring {cron!r}: {name} is {text!r}; give *, numbers from {least} to {most}, ranges such as "
                f"{least}-{most}, steps such as */2, with commas between"
            )
    return " ".join(fields)


def _fits(part: str, least: int, most: int, names: tuple[str, ...]) -> bool:
    match = _PART.fullmatch(part)
    if not match or match.group(3) == "0":
        return False
    ends = [_number(text, least, names) for text in match.groups()[:2] if text]
    return all(least <= end <= most for end in ends) and ends == sorted(ends)


def _number(text: str, least: int, names: tuple[str, ...]) -> int:
    """What a name or a number stands for, -1 where it is neither."""
    if text.lower() in names:
        return names.index(text.lower()) + least
    return int(text) if text.isdecimal() else -1


def prepare(asked: submission.Submission, run: str) -> submission.Submission:
    """The submission as a recurring run's, which is named after its pipeline where it is given no name.

    So a file that is compiled anew meets the schedule that is there, and no second one is made beside it in silence.

    Args:
      asked: what is to run, again and again.
      run: the recurring run's name, as given.

    Raises:
      errors.UsageError: `{SPAN}` stands in the data: every run of it has the same span.
    """
    parameter = ir.load(asked.path).parameters.get("data")
    data = asked.parameters.get("data", parameter.default if parameter else "")
    if _SPAN in str(data):
        raise errors.UsageError(
            f"--recurring: every run of it has the same span, a number that Kubeflow's schedule cannot count up, so "
            f"{data} would be the same delivery each time; give --param data=... without {{SPAN}}, or submit each span"
        )
    return asked if run else dataclasses.replace(asked, run=asked.name)


def submit(api: kfp_api.Api, asked: submission.Submission, cron: str) -> tuple[dict[str, Any], bool]:
    """Makes the recurring run, or finds it; whether it was made here.

    One of its runs is at work at a time, and times that were missed are not made up for.

    Raises:
      errors.WorkError: the server refuses or cannot be reached, or has another recurring run of that name.
    """
    experiment = submission.experiment(api, asked)

    def look() -> dict[str, Any] | None:
        found = api.find("/recurringruns", "recurringRuns", "display_name", asked.run, experiment_id=experiment)
        return found[0] if found else None

    found, made = look(), False
    if found is None:
        recurring = {
            **submission.described(api, asked, experiment),
            "max_concurrency": "1",
            "no_catchup": True,
            "mode": "ENABLE",
            "trigger": {"cron_schedule": {"cron": cron}},
        }
        found, made = api.create(look, "/recurringruns", json=recurring)
    if not made:
        there = found.get("trigger", {}).get("cron_schedule", {}).get("cron", "")
        other = [] if there == cron else [f"another schedule ({there or 'no cron'})"]
        submission.check_same(api, asked, found, "recurring run", other)
    return found, made
