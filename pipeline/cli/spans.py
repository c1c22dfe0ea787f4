"""`longtail spans`: the spans that later runs train on, and taking one, or a person, out of them."""

import json
import os
from typing import Annotated
from typing import Any

import typer

from longtail.models import errors
from longtail.pipeline.local import root_folder

app = typer.Typer(help="The accepted spans of a root: what is trained on, and what is withdrawn.", no_args_is_help=True)

Root = Annotated[str, typer.Option(help="The --root of runs.", metavar="DIR")]
Recipe = Annotated[str, typer.Option(help="Name of the recipe, where the root holds runs of several.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.command("list")
def list_(root: Root, recipe: Recipe = "", as_json: AsJson = False) -> None:
    """List the accepted spans: when and why, how much is in each, and which are withdrawn."""
    from longtail.components import ledger as ledger_lib
    from longtail.components import registry as registry_lib

    recipe = _recipe(root, recipe)
    registry = root_folder.registry(root, recipe)
    rows = [_row(registry, span) for span in registry_lib.entered_spans(registry)]
    ledger = ledger_lib.read(registry)
    sides = [one.side for one in ledger.met if one.identity is not None]
    known = {
        "trained": sides.count(ledger_lib.TRAIN),
        "held_out": sides.count(ledger_lib.HELD_OUT),
        "withdrawn": len(ledger.reasons),
    }
    if as_json:
        print(json.dumps({"recipe": recipe, "spans": rows, "identities": known}))
    else:
        _print(rows, known)


def _row(registry: str, span: int) -> dict[str, Any]:
    from longtail.components import registry as registry_lib

    entry = registry_lib.accepted_entry(registry, span)
    return {
        "span": span,
        "accepted": entry.get("when"),
        "reason": entry["accept_drift"] or None,
        "images": entry.get("images"),
        "identities": entry.get("identities"),
        "examples": entry.get("examples"),
        "withdrawn": registry_lib.withdrawn_reason(registry, span),
    }


def _print(rows: list[dict[str, Any]], known: dict[str, int]) -> None:
    import rich.table

    from longtail.pipeline import console as console_lib

    console = console_lib.out()
    table = rich.table.Table("span", "accepted", "although it drifted", "images", "identities", "withdrawn")
    for row in rows:
        cells = (row[key] for key in ("span", "accepted", "reason", "images", "identities", "withdrawn"))
        table.add_row(*("-" if cell is None else errors.shown(str(cell)) for cell in cells))
    console.print(table, markup=False)
    console.print(
        f"{known['trained']} identities are trained on, {known['held_out']} held out; {known['withdrawn']} withdrawn"
    )


@app.command()
def withdraw(
    words: Annotated[
        list[str], typer.Argument(help="A span's number, unless --identity is given, and why.", metavar="[SPAN] REASON")
    ],
    root: Root,
    identity: Annotated[str, typer.Option(help="Withdraw this identity of all spans.", metavar="NAME")] = "",
    recipe: Recipe = "",
    as_json: AsJson = False,
) -> None:
    """Take a span, or an identity of all spans, out of what later runs train on, score by, search and sample.

    Of an identity a salted digest of its name is kept, by which it is known when it comes again. What was made before
    is not touched: the command says which models and galleries still hold it.
    """
    if len(words) != (1 if identity else 2):
        raise errors.UsageError("give SPAN and REASON, or --identity NAME and REASON; a long reason in quotes")
    reason = words[-1].strip()
    if not reason:
        raise errors.UsageError("the reason is empty; it is kept, and shown by `longtail spans list`")
    if identity and identity in reason:
        raise errors.UsageError("the reason holds the identity's name, which is to be kept nowhere; give another")
    recipe = _recipe(root, recipe)
    root = os.path.realpath(root)
    with root_folder.hold(root):
        told = _withdraw_identity(root, recipe, identity, reason) if identity else _withdraw_span(root, recipe, *words)
    if as_json:
        print(json.dumps({"recipe": recipe, **told}))
    else:
        _print_left(told)


def _withdraw_span(root: str, recipe: str, number: str, reason: str) -> dict[str, Any]:
    from longtail.components import registry as registry_lib
    from longtail.pipeline.local import holdings

    registry = root_folder.registry(root, recipe)
    accepted = registry_lib.accepted_spans(registry)
    # One that is withdrawn may be so again: a command that was killed has perhaps not recorded it.
    if not number.isdecimal() or int(number) not in registry_lib.entered_spans(registry):
        listed = ", ".join(map(str, accepted)) or "none"
        raise errors.UsageError(f"span {number} is not an accepted one of recipe {recipe}; accepted are {listed}")
    if accepted == [int(number)]:
        raise errors.UsageError(f"span {number} is the only accepted one: without it there is nothing to train on")
    span = int(number)
    again = span not in accepted
    registry_lib.withdraw(registry, span, reason)
    holdings.record(root, recipe, f"span-{span}", reason)
    models, unknown = holdings.models_of_span(root, recipe, span)
    held = sorted(holdings.galleries_of_spans(root, recipe).intersection(models))
    examples = registry_lib.accepted_entry(registry, span).get("examples")
    folders = [examples] if examples else []
    left = {"models": models, "unknown": unknown, "galleries": held, "examples": folders}
    return {"withdrawn": f"span {span}", "again": again, **left}


def _withdraw_identity(root: str, recipe: str, identity: str, reason: str) -> dict[str, Any]:
    import unicodedata

    from longtail.components import erasure
    from longtail.components import ledger
    from longtail.pipeline.local import holdings

    registry, name = root_folder.registry(root, recipe), unicodedata.normalize("NFC", identity)
    digest = ledger.withdraw(registry, name, reason)
    erasure.erase(registry, name)
    holdings.record(root, recipe, digest, reason)
    models, unknown = holdings.models_of_identity(root, recipe, name)
    held = [version for version, names in holdings.galleries(root, recipe).items() if name in names]
    folders = _examples_with(registry, name)
    return {"withdrawn": "identity", "models": models, "unknown": unknown, "galleries": held, "examples": folders}


def _examples_with(registry: str, identity: str) -> list[str]:
    """Folders of kept examples that hold an identity's images."""
    from longtail.components import registry as registry_lib
    from longtail.components.data import identity_counts

    found = []
    for span in registry_lib.entered_spans(registry):
        folder = registry_lib.accepted_entry(registry, span).get("examples")
        if not folder or not os.path.exists(os.path.join(folder, identity_counts.FILE)):
            continue
        if any(identity in of_split for of_split in identity_counts.read(folder).values()):
            found.append(folder)
    return found


def _print_left(told: dict[str, Any]) -> None:
    def listed(numbers: list[int]) -> str:
        return ", ".join(map(str, numbers)) or "none"

    if told.get("again"):
        print("it was withdrawn already; the reason is now the new one")
    print(f"withdrawn: {told['withdrawn']}; no later run trains on it, scores by it or puts it in a gallery")
    print(f"pushed models that were trained on it: {listed(told['models'])}")
    if told["unknown"]:
        print(f"pushed models of which nobody knows any more what they were trained on: {listed(told['unknown'])}")
    print(f"galleries that hold it: {listed(told['galleries'])}")
    for folder in told["examples"]:
        print(f"its images are still in {errors.shown(folder)}")


def _recipe(root: str, recipe: str) -> str:
    """The recipe whose spans are meant.

    Raises:
      errors.UsageError: none was accepted there, or it must be said which.
    """
    folder = os.path.join(root, root_folder.REGISTRY)
    found = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    if not found:
        raise errors.UsageError(f"--root {root}: no span was judged there yet; `longtail run --root {root}` judges one")
    if recipe and recipe not in found:
        raise errors.UsageError(f"--root {root}: no span of recipe {recipe!r} was judged; there is {', '.join(found)}")
    if not recipe and len(found) > 1:
        raise errors.UsageError(f"--root {root}: it has spans of {', '.join(found)}; choose one with --recipe")
    return recipe or found[0]
