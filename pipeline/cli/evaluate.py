"""`longtail evaluate`: how well an exported model finds identities again on any images."""

import json
import time
from typing import Annotated

import typer

from longtail.models import errors
from longtail.models.metrics import protocols
from longtail.pipeline.cli import answers


def evaluate(
    model: Annotated[
        str, typer.Option(help="SavedModel: a version folder, or a folder of versions (the last).")
    ],
    data: Annotated[str, typer.Option(help="Folder, .zip or glyphs: to evaluate on.")] = "",
    query: Annotated[str, typer.Option(help="Instead of --data: the queries.")] = "",
    gallery: Annotated[
        str, typer.Option(help="And what they are sought in; a file that is byte for byte the query is left out.")
    ] = "",
    protocol: Annotated[
        str,
        typer.Option(
            help="; ".join(f"{each.name}: {each.meaning}" for each in protocols.ALL.values())
            + ". By default query_gallery where the data tells queries from gallery, else retrieval; for reid all "
            "images are both where it does not."
        ),
    ] = "",
    pairs: Annotated[
        str,
        typer.Option(help="For verification: LFW's pairs.txt, or a CSV left,right[,same[,fold]], paths below --data."),
    ] = "",
    layout: Annotated[str, typer.Option(help="How paths tell identities.")] = "folder",
    camera_pattern: Annotated[
        str, typer.Option(help="Regular expression; its group is the camera in a file's name.")
    ] = "",
    rerank: Annotated[
        bool, typer.Option("--rerank", help="Rank by k-reciprocal neighbours (Zhong et al. 2017): better, and slower.")
    ] = False,
    query_expansion: Annotated[
        int, typer.Option(help="Expand each query by so many of its nearest images (alpha query expansion).", min=0)
    ] = 0,
    flip: Annotated[
        bool, typer.Option("--flip", help="Embed each image and its mirror image, and take the mean: twice the work.")
    ] = False,
    distractors: Annotated[
        str,
        typer.Option(
            help="Rank-1 among a growing crowd: a .npy of embeddings, a folder of such, or a folder of images.",
            metavar="PATH",
        ),
    ] = "",
    threshold: answers.ThresholdOption = None,
    fmr: answers.FmrOption = None,
    per_query: Annotated[str, typer.Option(help="Write a row for each query there.", metavar="FILE.csv")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Score a model: how well it finds identities again, tells pairs apart, or knows a stranger."""
    begin = time.perf_counter()
    asked = protocols.find(protocol, "--protocol", protocols.ALL) if protocol else None
    _check_arguments(asked, data, query, gallery, pairs)
    # Here, since TensorFlow takes seconds to import.
    from longtail.pipeline import console
    from longtail.pipeline.cli import evaluate_images
    from longtail.pipeline.cli import evaluate_pairs
    from longtail.pipeline.cli import evaluate_ranked
    from longtail.pipeline.cli import evaluate_task
    from longtail.serving import thresholds

    options = evaluate_ranked.Options(rerank, query_expansion, flip, distractors, per_query)
    evaluate_ranked.check(asked, options)
    if (threshold, fmr) != (None, None) and asked is not protocols.IDENTIFICATION:
        raise errors.UsageError(f"--threshold and --fmr are for --protocol {protocols.IDENTIFICATION.name}")
    with console.lines():
        embedder = evaluate_images.embedder(model)
        if distractors:
            evaluate_ranked.check_width(distractors, embedder.dimension)
        calibrated = [] if fmr is None else thresholds.of_model(embedder.uri)
        bar = answers.chosen(threshold, fmr, calibrated, embedder.uri)
        task = evaluate_task.choose(data, query, gallery, layout, camera_pattern, asked)
        listed = evaluate_pairs.read(pairs, task.queries) if pairs else []
        if listed:
            task = task._replace(queries=evaluate_pairs.mentioned(listed, task.queries))
        evaluate_task.check(task)
        found = evaluate_images.embed(embedder, task.images, flip)
        if task.protocol is protocols.VERIFICATION:
            figures = evaluate_pairs.verification(task.images, found.digests, found.vectors, found.usable, listed)
        elif task.protocol is protocols.IDENTIFICATION:
            figures = evaluate_pairs.identification(
                task.images, found.digests, len(task.queries), found.vectors, found.usable, bar
            )
        else:
            figures = evaluate_ranked.figures(task, found, embedder, options)
    figures = {"protocol": task.protocol.name, **figures, "undecodable": int((~found.usable).sum())}
    figures["seconds"] = round(time.perf_counter() - begin, 3)
    _print(figures, as_json)


def _check_arguments(asked: protocols.Protocol | None, data: str, query: str, gallery: str, pairs: str) -> None:
    if bool(query) != bool(gallery):
        raise errors.UsageError("--query and --gallery go together; give both, or --data alone")
    if bool(data) == bool(query):
        raise errors.UsageError("give either --data, or --query and --gallery")
    if pairs and asked is not protocols.VERIFICATION:
        raise errors.UsageError(f"--pairs {pairs}: pairs are for --protocol {protocols.VERIFICATION.name}")
    if query and asked in (protocols.RETRIEVAL, protocols.VERIFICATION):
        raise errors.UsageError(
            f"--protocol {asked.name}: {asked.meaning}, so there is no gallery; give --data, or take query_gallery"
        )


def _print(figures: dict, as_json: bool) -> None:
    if as_json:
        print(json.dumps(figures))
        return
    import rich.table

    from longtail.models.metrics import metric
    from longtail.pipeline import console

    table = rich.table.Table(show_header=False)
    metrics = {each.name: each for each in metric.METRICS}
    points, at = figures.pop("points", []), figures.pop("at", [])
    bins, crowds = figures.pop("bins", {}), figures.pop("distractors", [])
    for name, value in figures.items():
        known = metrics.get(name)
        shown = f"{known.show(value)} {known.unit}".rstrip() if known else _written(value)
        table.add_row(known.caption if known else name, shown)
    console.out().print(table)
    if bins or crowds:
        from longtail.pipeline.cli import evaluate_ranked

        for further in evaluate_ranked.tables(bins if len(bins) > 1 else {}, crowds):
            console.out().print(further)
    if points:
        from longtail.pipeline.cli import evaluate_pairs

        console.out().print(evaluate_pairs.table(points))
        for line in evaluate_pairs.lines(at):
            console.out().print(line)


def _written(value) -> str:
    """A figure that is none of the metrics; an interval with its two ends."""
    if isinstance(value, tuple):
        return " to ".join(map(_written, value))
    return f"{value:.4g}" if isinstance(value, float) else f"{value}"
