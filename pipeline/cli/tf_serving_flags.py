"""The command line of tensorflow_model_server, made that of `longtail serve`.

Its flags have underscores and say `=true` and `=false`. Those that stand for nothing here are refused, where the server
would then be another than was asked for, or noted and left out, where it makes no difference to who asks it.
"""

import importlib.metadata
import logging
from typing import Any

import typer
from typer import core

log = logging.getLogger("longtail")

_TRUE = ("true", "1", "yes", "t")
_FALSE = ("false", "0", "no", "f", "")

# switch -> what says true and false here
_SWITCHES: dict[str, tuple[list[str], list[str]]] = {
    "--allow-version-labels-for-unavailable-models": (["--allow-version-labels-for-unavailable-models"], []),
    "--enable-batching": ([], ["--no-batching"]),
    "--enable-model-warmup": ([], ["--no-warm-up"]),
    "--enable-serialization-as-tensor-content": (["--enable-serialization-as-tensor-content"], []),
}

# flag -> why it makes no difference
_NOTED = {
    "--enable-grpc-healthcheck-service": "the health service is always there",
    "--enable-profiler": "there is no profiler service",
    "--flush-filesystem-caches": "file system caches are the system's own",
    "--grpc-max-threads": "requests need no threads of their own",
    "--num-load-threads": "models are loaded one after the other, beside the requests",
    "--num-tflite-interpreters-per-pool": "there is no TensorFlow Lite",
    "--num-tflite-pools": "there is no TensorFlow Lite",
    "--num-unload-threads": "versions are unloaded beside the requests",
    "--remove-unused-fields-from-bundle-metagraph": "a version keeps its signatures alone",
    "--rest-api-num-threads": "requests need no threads of their own",
    "--skip-initialize-tpu": "there is no TPU",
}

# flag -> the values that ask for nothing, and why any other is refused
_REFUSED: dict[str, tuple[tuple[str, ...], str]] = {
    "--enable-per-model-batching-parameters": (_FALSE, "--batching-parameters-file is for all models"),
    "--enable-signature-method-name-check": (_FALSE, "a signature's method name is not looked at"),
    "--grpc-socket-path": (("",), "the server listens on TCP only"),
    "--mixed-precision": (("",), "a model computes as it was exported"),
    "--per-process-gpu-memory-fraction": (("0", "0.0"), "TensorFlow takes what it needs of a GPU"),
    "--platform-config-file": (("",), "the platform is TensorFlow"),
    "--prefer-tflite-model": (_FALSE, "there is no TensorFlow Lite"),
    "--rest-api-enable-cors-support": (_FALSE, "put a proxy in front for browsers of other sites"),
    "--saved-model-tags": (("serve",), "a model is loaded by its tag `serve`"),
    "--tensorflow-session-config-file": (("",), "see --tensorflow-intra-op-parallelism and -inter-op-"),
    "--thread-pool-factory-config-file": (("",), "see --tensorflow-intra-op-parallelism and -inter-op-"),
    "--use-alts-credentials": (_FALSE, "see --tls-certificate or --ssl-config-file"),
    "--xla-cpu-compilation-enabled": (_FALSE, "compile in the model: tf.function(jit_compile=True)"),
    "--xla-gpu-compilation-enabled": (_FALSE, "compile in the model: tf.function(jit_compile=True)"),
}


def _switch(flag: str, value: str) -> list[str]:
    if value.lower() in _TRUE:
        return _SWITCHES[flag][0]
    if value.lower() in _FALSE:
        return _SWITCHES[flag][1]
    raise typer.BadParameter(f"{flag} is true or false. Received: {value}")


def translated(arguments: list[str]) -> list[str]:
    """`arguments` as `longtail serve` takes them.

    Raises:
      BadParameter: one asks for what there is not.
    """
    out: list[str] = []
    ahead = list(arguments)
    while ahead:
        argument = ahead.pop(0)
        name, equals, value = argument.partition("=")
        flag = name.replace("_", "-")
        if not argument.startswith("--"):
            out.append(argument)
        elif flag in _SWITCHES:
            out += _switch(flag, value if equals else "true")
        elif flag in _NOTED or flag in _REFUSED:
            if not equals and ahead and not ahead[0].startswith("--"):
                value = ahead.pop(0)
            elif not equals:
                value = "true"
            _left_out(name, flag, value)
        else:
            out.append(flag + equals + value)
    return out


def _left_out(name: str, flag: str, value: str) -> None:
    if flag in _NOTED:
        log.warning("%s makes no difference here: %s", name, _NOTED[flag])
        return
    nothing, why = _REFUSED[flag]
    if value.lower() not in nothing:
        raise typer.BadParameter(f"{name} is not supported: {why}")


def channel_arguments(text: str) -> tuple[tuple[str, int | str], ...]:
    """The arguments of gRPC in `K=V,K=V`; a value that is a whole number is one.

    Raises:
      BadParameter: a part is not of that form.
    """
    found: list[tuple[str, int | str]] = []
    for part in filter(None, text.split(",")):
        key, equals, value = part.partition("=")
        if not (key and equals):
            raise typer.BadParameter(f"--grpc-channel-arguments is K=V,K=V. Received: {part}")
        found.append((key, int(value) if value.removeprefix("-").isdecimal() else value))
    return tuple(found)


class Command(core.TyperCommand):
    """`longtail serve`: takes TF Serving's spelling as well as ours."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Reads the command line."""
        from longtail.pipeline import console

        with console.lines():
            return super().parse_args(ctx, translated(args))


def version(asked: bool) -> None:
    """Prints the versions and ends, where that was asked for."""
    if asked:
        found = (f"{name} {importlib.metadata.version(name)}" for name in ("longtail", "tensorflow"))
        typer.echo(", ".join(found))
        raise typer.Exit
