"""`longtail bench`: the benchmarks, each a module of benchmarks/ that answers one JSON object."""

import json
from typing import Annotated

import typer

app = typer.Typer(name="bench", no_args_is_help=True, help="Measure what things cost on this machine.")

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.callback()
def _group() -> None:
    """Measure what things cost on this machine."""


@app.command()
def head(
    classes: Annotated[str, typer.Option(help="Numbers of classes, comma-separated.")] = "1000,10000,100000",
    dim: Annotated[int, typer.Option(help="Length of the embedding.")] = 512,
    batch: Annotated[int, typer.Option(help="Images in a batch.")] = 128,
    rounds: Annotated[int, typer.Option(help="How often the largest heads are timed.")] = 15,
    xla: Annotated[bool, typer.Option(help="Also time steps compiled as a whole.")] = True,
    as_json: JsonOption = False,
) -> None:
    """Time a head's training step, plain, with LEAP and with the naive forms of it, and count LEAP's state."""
    # Here, so that `longtail --help` loads no TensorFlow.
    from longtail.benchmarks import head as benchmark

    _print(benchmark.run(_numbers("--classes", classes, least=2), dim, batch, rounds, xla), as_json)


@app.command()
def drift(
    data: Annotated[
        str, typer.Option(help="Folder or .zip of folder/identity/image; the built-in glyphs where not given.")
    ] = "",
    identities: Annotated[int, typer.Option(help="Identities of the accepted span, six images each.", min=20)] = 400,
    epochs: Annotated[int, typer.Option(help="How long the model is trained that embeds.", min=1)] = 24,
    kinds: Annotated[str, typer.Option(help="Only these kinds of spans, comma-separated.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Plant drift of many kinds and severities, and count what the gate finds; clean spans beside them."""
    from longtail.benchmarks import drift as benchmark
    from longtail.pipeline import console

    with console.lines():
        report = benchmark.run(data, identities, epochs, kinds)
    _print(report, as_json)


Images = Annotated[str, typer.Option(help="Numbers of images, comma-separated.")]
Side = Annotated[int, typer.Option(help="Side of an image, pixels.", min=16)]


@app.command()
def ingest(images: Images = "5000,20000", side: Side = 96, as_json: JsonOption = False) -> None:
    """Measure ingestion beside a plain loop that reads, decodes and writes, and its peak memory."""
    from longtail.benchmarks import ingest as benchmark

    _print(benchmark.run(_numbers("--images", images), side), as_json)


@app.command(name="input")
def input_(
    images: Images = "5000,20000",
    side: Side = 96,
    rounds: Annotated[int, typer.Option(help="How often the steps are timed, twenty at a time.", min=1)] = 7,
    as_json: JsonOption = False,
) -> None:
    """Measure a training's input beside a pipeline that only decodes, and its memory."""
    from longtail.benchmarks import input as benchmark

    _print(benchmark.run(_numbers("--images", images), side, rounds), as_json)


def _numbers(option: str, text: str, least: int = 40) -> list[int]:
    from longtail.models import errors

    try:
        numbers = [int(number) for number in text.split(",")]
    except ValueError:
        raise errors.UsageError(f"{option}: whole numbers with commas between, not {text!r}") from None
    if min(numbers) < least:
        raise errors.UsageError(f"{option}: at least {least} each, not {min(numbers)}")
    return numbers


@app.command()
def serve(
    rounds: Annotated[int, typer.Option(help="How often each way of asking is measured.")] = 4,
    seconds: Annotated[float, typer.Option(help="How long each time.")] = 2.0,
    models: Annotated[str, typer.Option(help="Models to serve, comma-separated.")] = "mobilenet,conv4",
    as_json: JsonOption = False,
) -> None:
    """Measure `longtail serve`: images a CPU second beside the model alone, and latency."""
    from longtail.benchmarks import serve as benchmark

    _print(benchmark.run(rounds, seconds, kinds=models.split(",")), as_json)


@app.command()
def evaluate(
    dim: Annotated[int, typer.Option(help="Length of an embedding.", min=1)] = 512,
    rounds: Annotated[int, typer.Option(help="How often each ranking is timed.", min=1)] = 3,
    distractors: Annotated[int, typer.Option(help="Size of the crowd.", min=1)] = 1_000_000,
    probes: Annotated[int, typer.Option(help="Images sought in it.", min=2)] = 3000,
    queries: Annotated[int, typer.Option(help="Queries of the evaluation.", min=1)] = 3368,
    gallery: Annotated[int, typer.Option(help="Its gallery images.", min=1)] = 15913,
    peer: Annotated[
        str, typer.Option(help="Folder of torchreid's compiled rank_cy, to be timed beside it.", metavar="DIR")
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """Measure an evaluation of Market-1501's size, its re-ranking and a million distractors, and their peak memory."""
    from longtail.benchmarks import evaluate as benchmark

    _print(benchmark.run(dim, rounds, distractors, probes, (queries, gallery), peer), as_json)


@app.command()
def transfer(
    backbone: Annotated[str, typer.Option(help="The encoder.")] = "conv4",
    side: Annotated[int, typer.Option(help="Of an image, pixels.", min=16)] = 28,
    channels: Annotated[int, typer.Option(help="Of an image, 1 or 3.", min=1, max=3)] = 1,
    width: Annotated[float, typer.Option(help="Of filter and decoder, of the paper's.", min=0.05)] = 0.25,
    classes: Annotated[int, typer.Option(help="Number of classes.", min=2)] = 727,
    batch: Annotated[int, typer.Option(help="Images in a batch.", min=2)] = 128,
    rounds: Annotated[int, typer.Option(help="How often each step is timed.", min=1)] = 10,
    as_json: JsonOption = False,
) -> None:
    """Time a step of each stage of feature transfer beside one of ordinary training."""
    from longtail.benchmarks import transfer as benchmark

    _print(benchmark.run(backbone, side, channels, width, classes, batch, rounds), as_json)


@app.command(name="warm-start")
def warm_start(
    data: Annotated[
        str, typer.Option(help="Folder or .zip of group/identity/image; the built-in glyphs where not given.")
    ] = "",
    epochs: Annotated[int, typer.Option(help="Of a training from scratch.", min=1)] = 24,
    fewer: Annotated[str, typer.Option(help="Other numbers of epochs, comma-separated.")] = "12,6,3",
    seeds: Annotated[int, typer.Option(help="How often, each with others held out.", min=1)] = 3,
    as_json: JsonOption = False,
) -> None:
    """Train on half of the groups, then on all: from scratch and from the first model, for as many epochs and fewer."""
    from longtail.benchmarks import warm_start as benchmark
    from longtail.pipeline import console

    with console.lines():
        report = benchmark.run(data, epochs, _numbers("--fewer", fewer, least=1), seeds)
    _print(report, as_json)


@app.command()
def spans(
    data: Annotated[str, typer.Option(help="Folder or .zip of group/identity/image, of 15 groups or more.")],
    windows: Annotated[str, typer.Option(help="Values of data.window, comma-separated.")] = "all,last 2,one",
    starts: Annotated[str, typer.Option(help="Values of training.start_from, comma-separated.")] = "scratch,blessed",
    epochs: Annotated[int, typer.Option(help="Epochs of a training from scratch.", min=1)] = 24,
    warm_epochs: Annotated[int, typer.Option(help="Of one from the last blessed model.", min=1)] = 12,
    as_json: JsonOption = False,
) -> None:
    """Take five deliveries through the pipeline, one damaged, one drifted and withdrawn: what windows are worth."""
    from longtail.benchmarks import spans as benchmark
    from longtail.pipeline import console

    with console.lines():
        report = benchmark.run(data, windows.split(","), starts.split(","), epochs, warm_epochs)
    _print(report, as_json)


def _print(report: dict, as_json: bool) -> None:
    if as_json:
        print(json.dumps(report))
        return
    import rich.table

    from longtail.pipeline import console

    table = rich.table.Table("what", "value", "ratio", "target", "", title=_title(report["machine"]))
    for row in report["results"]:
        value = "-" if row["value"] is None else f"{row['value']:.4g} {row['unit']}"
        ratio = "" if row["ratio"] is None else f"{row['ratio']:.3f}"
        target = "" if row["target"] is None else f"{_sign(row)} {row['target']:.2f}"
        table.add_row(row["name"], value, ratio, target, {None: "", True: "ok", False: "missed"}[row["ok"]])
    console.out().print(table)


def _sign(row: dict) -> str:
    """Which way the target is meant: a row says only whether it was met."""
    reached = row["value"] if row["ratio"] is None else row["ratio"]
    return ">=" if row["ok"] == (reached > row["target"]) else "<="


def _title(machine: dict) -> str:
    return f"{machine['cpu']}, {machine['cores']} cores, load {machine['load']}"
