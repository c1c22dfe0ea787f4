"""`longtail compile`: the graph of a recipe for Kubeflow Pipelines v2."""

import os
from typing import Annotated

import typer

from longtail.pipeline.cli import run as run_command


def compile_(
    recipe: run_command.RecipeOption,
    image: Annotated[str, typer.Option(help="Container image that holds longtail.", metavar="IMG")],
    pipeline_root: Annotated[
        str,
        typer.Option(help="Folder of artifacts, registry, models and galleries, as gs://bucket/folder.", metavar="URI"),
    ],
    output: Annotated[str, typer.Option(help="Where to write the pipeline.", metavar="FILE.yaml")],
    data: Annotated[
        str,
        typer.Option(
            help="Default of the runtime parameter `data`; {SPAN} is replaced.", show_default="the recipe's, if any"
        ),
    ] = "",
    parameter: Annotated[
        list[str] | None,
        typer.Option(help="Leave one more key of the recipe open to each run, e.g. leap.start_epoch. Repeatable."),
    ] = None,
    set_: run_command.SetOption = None,
    resources: Annotated[
        str,
        typer.Option(help="Image, CPU, memory, accelerators, nodes, retries and cache, by step.", metavar="FILE.yaml"),
    ] = "",
    gpus: Annotated[int | None, typer.Option(help="Of the Trainer (nvidia.com/gpu).", min=0)] = None,
    node_selector: Annotated[
        list[str] | None, typer.Option(help="Label of the Trainer's nodes. Repeatable.", metavar="KEY=VALUE")
    ] = None,
    beam_pipeline_args: run_command.BeamOption = None,
    local: Annotated[
        bool, typer.Option("--local", help="For a rehearsal on this machine: root and data may be local folders.")
    ] = False,
) -> None:
    """Compile the pipeline for Kubeflow Pipelines v2, or say everything that would fail there.

    The same graph as `longtail run`'s. What a run can be told stands at the head of the file.
    """
    from longtail.pipeline import beam
    from longtail.pipeline import recipe as recipe_lib

    loaded = recipe_lib.load(recipe, set_ or (), files=local)
    beam_args = beam.split(beam_pipeline_args or ())
    beam.check(beam_args)
    from longtail.models import errors
    from longtail.models import files
    from longtail.pipeline.kubeflow.compile import compiler as compile_lib
    from longtail.pipeline.kubeflow.compile import lint
    from longtail.pipeline.kubeflow.compile import resources as resources_lib

    if not output.endswith((".yaml", ".yml")):
        raise errors.UsageError(f"--output {output}: Kubeflow Pipelines takes .yaml; name the file so")
    given = resources_lib.load(resources) if resources else resources_lib.Resources()
    given = resources_lib.with_trainer(given, gpus, node_selector or ())
    target = compile_lib.Target(
        image=image,
        root=os.path.abspath(pipeline_root) if local and "://" not in pipeline_root else pipeline_root,
        local=local,
        data=_data(data or loaded.data.source),
        resources=given,
        beam_args=beam_args,
        parameters=tuple(parameter or ()),
    )
    try:
        text = compile_lib.compile_recipe(loaded, target)
    except lint.Refused as refused:
        for finding in refused.findings:
            typer.echo(f"longtail: error: {finding}", err=True)
        raise typer.Exit(refused.exit_status) from None
    files.write(output, text)
    typer.echo(f"{output}: rehearse it with: longtail rehearse {output} --root DIR")


def _data(source: str) -> str:
    """The source as the steps will find it; a relative path is one of this machine, which the linter must see."""
    if source and "://" not in source and not source.startswith("glyphs:"):
        return os.path.abspath(source)
    return source
