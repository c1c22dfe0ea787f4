"""The `longtail` command. Nothing heavy is imported until a command that needs it runs."""

import os
import sys
import traceback
import warnings
from typing import Annotated
from typing import NoReturn

# TensorFlow's C++ complains about missing GPUs before Python can ask it not to.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import typer  # noqa: E402
from typer import exceptions  # noqa: E402

import longtail  # noqa: E402
from longtail.models import errors  # noqa: E402
from longtail.pipeline.cli import bench  # noqa: E402
from longtail.pipeline.cli import calibrate  # noqa: E402
from longtail.pipeline.cli import clients  # noqa: E402
from longtail.pipeline.cli import compile as compile_command  # noqa: E402
from longtail.pipeline.cli import data  # noqa: E402
from longtail.pipeline.cli import drift  # noqa: E402
from longtail.pipeline.cli import evaluate  # noqa: E402
from longtail.pipeline.cli import export  # noqa: E402
from longtail.pipeline.cli import gallery  # noqa: E402
from longtail.pipeline.cli import gallery_map  # noqa: E402, F401 - adds `longtail gallery map`
from longtail.pipeline.cli import neighbours  # noqa: E402
from longtail.pipeline.cli import recipe  # noqa: E402
from longtail.pipeline.cli import rehearse  # noqa: E402
from longtail.pipeline.cli import report  # noqa: E402
from longtail.pipeline.cli import run  # noqa: E402
from longtail.pipeline.cli import serve  # noqa: E402
from longtail.pipeline.cli import spans  # noqa: E402
from longtail.pipeline.cli import study  # noqa: E402
from longtail.pipeline.cli import submit  # noqa: E402
from longtail.pipeline.cli import tf_serving_flags  # noqa: E402
from longtail.pipeline.cli import transfer  # noqa: E402
from longtail.pipeline.cli import verify  # noqa: E402
from longtail.pipeline.cli import watch  # noqa: E402

app = typer.Typer(
    name="longtail",
    help="Train, validate, ship and serve embedding models from long-tailed image data.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _print_version(asked: bool) -> None:
    if asked:
        print(f"longtail {longtail.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Takes the options that belong to no command."""


app.command()(run.run)
app.command("try")(run.smoke_test)
app.command()(watch.watch)
app.command()(drift.drift)
app.command()(report.report)
app.command()(study.study)
app.command()(evaluate.evaluate)
app.command()(calibrate.calibrate)
app.command()(export.export)
app.command()(neighbours.neighbours)
app.command()(recipe.recipe)
app.command("compile")(compile_command.compile_)
app.command()(rehearse.rehearse)
app.command()(submit.submit)
app.command(cls=tf_serving_flags.Command)(serve.serve)
app.command()(clients.embed)
app.command()(clients.identify)
app.command()(verify.verify)
app.add_typer(data.app, name="data")
app.add_typer(gallery.app, name="gallery")
app.add_typer(spans.app, name="spans")
app.add_typer(bench.app, name="bench")
app.add_typer(transfer.app, name="transfer")


def _refuse(error: exceptions.TyperException) -> NoReturn:
    """Ends a command that was not given what it takes, in one line; one that was given nothing, with its help."""
    said, context = error.format_message().replace(": Value error, ", ": ", 1), getattr(error, "ctx", None)
    if "\n" in said:
        print(said, file=sys.stderr)
    else:
        hint = f"; {context.command_path} --help says what it takes" if context else ""
        print(f"longtail: error: {errors.shown(said.rstrip('.'))}{hint}", file=sys.stderr)
    sys.exit(error.exit_code)


def main() -> None:
    """Runs the command line. Exit status: 0, 1 for failed work, 2 for bad usage; every error is one line.

    A run's log file has the traceback of an error that nobody foresaw; LONGTAIL_DEBUG=1 shows it of any error, here.
    """
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # libraries' words on each other's releases, none for a user to act on
    try:
        status = app(prog_name="longtail", standalone_mode=False)
        sys.exit(status)
    except exceptions.TyperException as error:
        _refuse(error)
    except errors.Stopped as stop:
        print(f"longtail: {errors.shown(str(stop))}", file=sys.stderr)
        sys.exit(stop.exit_status)
    except Exception as error:
        if os.environ.get("LONGTAIL_DEBUG"):
            traceback.print_exc()
        status = getattr(error, "exit_status", None)
        line = str(error) if status else f"{errors.first_line(error)}; LONGTAIL_DEBUG=1 shows where"
        print(f"longtail: error: {errors.shown(line)}", file=sys.stderr)
        sys.exit(status or 1)
