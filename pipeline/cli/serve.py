"""`longtail serve`: the embedded model server, with its own flags and TF Serving's."""

from typing import TYPE_CHECKING
from typing import Annotated

import typer

from longtail.pipeline.cli import signals
from longtail.pipeline.cli import tf_serving_flags

if TYPE_CHECKING:
    from longtail.serving.model_server import server as server_lib
    from longtail.serving.model_server.batching import scheduler
    from longtail.serving.model_server.config import tls as tls_lib
    from longtail.serving.model_server.runtime import servable

_LOADING = "Loading models"
_LIMITS = "Batching and limits"
_SECURITY = "Who may ask"

_UNLOAD_AFTER_S = 1.0  # see loader.Options


def serve(
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "--model-base-path",
            help="Folder of a model: it holds a folder for each version (1, 2, ...).",
            metavar="DIR",
        ),
    ] = "",
    model_name: Annotated[
        str, typer.Option(help="What clients call the model.", show_default="the name of its folder")
    ] = "",
    model_config_file: Annotated[
        str,
        typer.Option(
            help="Serve the models of this file instead: TensorFlow Serving's ModelServerConfig, as text.",
            metavar="FILE",
        ),
    ] = "",
    gallery: Annotated[
        str,
        typer.Option(
            help="Folder of a gallery of this model. With it, POST /v1/gallery:identify says who is on an image.",
            metavar="DIR",
        ),
    ] = "",
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines in.")] = "127.0.0.1",
    grpc_port: Annotated[
        int,
        typer.Option("--grpc-port", "--port", help="Port for gRPC; 0 picks a free one.", min=0, max=65535, metavar="N"),
    ] = 8500,
    rest_port: Annotated[
        int,
        typer.Option(
            "--rest-port", "--rest-api-port", help="Port for REST; 0 picks a free one.", min=0, max=65535, metavar="N"
        ),
    ] = 8501,
    grace: Annotated[
        float,
        typer.Option(
            help="Longest wait for requests under way when the server ends, in seconds.", min=0.0, metavar="S"
        ),
    ] = 10.0,
    request_log: Annotated[
        str,
        typer.Option(
            help="Keep the images that are asked about there, as TFRecord files of PredictionLog: for `longtail run "
            "--request-log` to compare with training. They may show people; nothing deletes them.",
            metavar="DIR",
        ),
    ] = "",
    request_log_rate: Annotated[
        float, typer.Option(help="Share of the requests that are kept, by chance.", min=0.01, max=1.0, metavar="X")
    ] = 1.0,
    token_file: Annotated[
        str,
        typer.Option(
            help="Answer only requests with a bearer token of this file, one a line; health checks need none. Without "
            "it, tokens in the environment variable LONGTAIL_SERVE_TOKENS count.",
            metavar="FILE",
            rich_help_panel=_SECURITY,
        ),
    ] = "",
    tls_certificate: Annotated[
        str,
        typer.Option(help="Certificate, PEM. With it both ports speak TLS.", metavar="FILE", rich_help_panel=_SECURITY),
    ] = "",
    tls_key: Annotated[
        str, typer.Option(help="The certificate's private key, PEM.", metavar="FILE", rich_help_panel=_SECURITY)
    ] = "",
    tls_client_ca: Annotated[
        str,
        typer.Option(
            help="Answer only clients with a certificate of this authority, PEM.",
            metavar="FILE",
            rich_help_panel=_SECURITY,
        ),
    ] = "",
    ssl_config_file: Annotated[
        str,
        typer.Option(help="TensorFlow Serving's SSLConfig in their place.", metavar="FILE", rich_help_panel=_SECURITY),
    ] = "",
    no_batching: Annotated[
        bool, typer.Option("--no-batching", help="Run every request by itself.", rich_help_panel=_LIMITS)
    ] = False,
    batching_parameters_file: Annotated[
        str,
        typer.Option(help="TensorFlow Serving's BatchingParameters, as text.", metavar="FILE", rich_help_panel=_LIMITS),
    ] = "",
    max_request_bytes: Annotated[
        int, typer.Option(help="Largest request that is read.", min=1, metavar="N", rich_help_panel=_LIMITS)
    ] = 64 << 20,
    max_concurrent_requests: Annotated[
        int,
        typer.Option(
            help="Requests under way on each port; more are refused.", min=1, metavar="N", rich_help_panel=_LIMITS
        ),
    ] = 1024,
    rest_api_timeout_in_ms: Annotated[
        int, typer.Option(help="Longest time for an answer over REST.", min=1, metavar="N", rich_help_panel=_LIMITS)
    ] = 30000,
    enable_serialization_as_tensor_content: Annotated[
        bool,
        typer.Option(
            "--enable-serialization-as-tensor-content",
            help="Answer gRPC with numbers as raw bytes, which is quicker to read, not in the field of their type.",
            rich_help_panel=_LIMITS,
        ),
    ] = False,
    grpc_channel_arguments: Annotated[
        str,
        typer.Option(
            help="gRPC's own arguments, with commas between them: grpc.max_connection_age_ms=2000.",
            metavar="K=V",
            rich_help_panel=_LIMITS,
        ),
    ] = "",
    file_system_poll_wait_seconds: Annotated[
        float,
        typer.Option(
            help="Pause between looks for new versions; 0 looks once.", min=0.0, metavar="S", rich_help_panel=_LOADING
        ),
    ] = 2.0,
    model_config_file_poll_wait_seconds: Annotated[
        float,
        typer.Option(
            help="Pause between looks whether that file changed; 0 looks once.",
            min=0.0,
            metavar="S",
            rich_help_panel=_LOADING,
        ),
    ] = 0.0,
    allow_version_labels_for_unavailable_models: Annotated[
        bool,
        typer.Option(
            "--allow-version-labels-for-unavailable-models",
            help="Let a new label point at a version that is not loaded yet.",
            rich_help_panel=_LOADING,
        ),
    ] = False,
    max_num_load_retries: Annotated[
        int,
        typer.Option(
            help="How often a version that failed is tried again while its files stay as they are.",
            min=0,
            metavar="N",
            rich_help_panel=_LOADING,
        ),
    ] = 5,
    load_retry_interval_micros: Annotated[
        int, typer.Option(help="Pause before each of these tries.", metavar="N", rich_help_panel=_LOADING)
    ] = 60_000_000,
    no_warm_up: Annotated[
        bool,
        typer.Option(
            "--no-warm-up", help="Do not run the requests in a version's assets.extra first.", rich_help_panel=_LOADING
        ),
    ] = False,
    num_request_iterations_for_warmup: Annotated[
        int, typer.Option(help="How often each of them is run.", min=1, metavar="N", rich_help_panel=_LOADING)
    ] = 1,
    tensorflow_session_parallelism: Annotated[
        int,
        typer.Option(help="Sets the two below.", show_default="1", min=0, metavar="N", rich_help_panel=_LOADING),
    ] = 0,
    tensorflow_intra_op_parallelism: Annotated[
        int, typer.Option(help="Threads within one op.", show_default="1", min=0, metavar="N", rich_help_panel=_LOADING)
    ] = 0,
    tensorflow_inter_op_parallelism: Annotated[
        int, typer.Option(help="Ops that run at once.", show_default="1", min=0, metavar="N", rich_help_panel=_LOADING)
    ] = 0,
    monitoring_config_file: Annotated[
        str,
        typer.Option(
            help="TensorFlow Serving's MonitoringConfig; without it Prometheus reads /monitoring/prometheus/metrics.",
            metavar="FILE",
            rich_help_panel=_LOADING,
        ),
    ] = "",
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the versions and end.", callback=tf_serving_flags.version, is_eager=True),
    ] = False,
) -> None:
    """Serves models over gRPC and REST, as TensorFlow Serving does, and takes its flags too, in either spelling.

    A version that is pushed while the server runs takes over; no request fails.
    When the server is ready it prints one line with its addresses.
    Ctrl-C or SIGTERM ends it; requests under way are finished first.
    """
    from longtail.pipeline import console
    from longtail.serving.model_server import request_log as request_log_lib
    from longtail.serving.model_server import server as server_lib
    from longtail.serving.model_server.grpc import server as grpc_server
    from longtail.serving.model_server.rest import bodies
    from longtail.serving.model_server.runtime import loader

    intra = tensorflow_intra_op_parallelism or tensorflow_session_parallelism
    inter = tensorflow_inter_op_parallelism or tensorflow_session_parallelism
    arguments = tf_serving_flags.channel_arguments(grpc_channel_arguments)
    options = server_lib.Options(
        model=model,
        name=model_name,
        model_config=model_config_file,
        gallery=gallery,
        host=host,
        grpc_port=grpc_port,
        rest_port=rest_port,
        grace_s=grace,
        poll_s=file_system_poll_wait_seconds,
        config_poll_s=model_config_file_poll_wait_seconds,
        load=loader.Options(
            max_num_load_retries,
            load_retry_interval_micros / 1e6,
            0 if no_warm_up else num_request_iterations_for_warmup,
            _session(intra, inter),
            unload_after_s=_UNLOAD_AFTER_S,
        ),
        labels_before_versions=allow_version_labels_for_unavailable_models,
        batching=_batching(no_batching, batching_parameters_file),
        grpc=grpc_server.Options(
            max_request_bytes, max_concurrent_requests, enable_serialization_as_tensor_content, arguments
        ),
        rest=bodies.Limits(rest_api_timeout_in_ms / 1e3, max_request_bytes, max_concurrent_requests),
        metrics_path=_metrics_path(monitoring_config_file),
        token_file=token_file,
        tls=_tls(tls_certificate, tls_key, tls_client_ca, ssl_config_file),
        request_log=request_log_lib.Options(request_log, request_log_rate) if request_log else None,
    )
    with signals.asked_to_stop() as stop, console.lines(), server_lib.ModelServer(options) as server:
        if not stop.is_asked():
            typer.echo(_ready(server))
        stop.wait()


def _session(intra: int, inter: int) -> "servable.SessionOptions":
    from longtail.serving.model_server.runtime import servable

    given = {"intra_op_threads": intra, "inter_op_threads": inter}
    return servable.SessionOptions(**{name: number for name, number in given.items() if number})


def _batching(off: bool, parameters_file: str) -> "scheduler.Options":
    from longtail.models import errors
    from longtail.serving.model_server.batching import scheduler
    from longtail.serving.model_server.config import files as config_files

    if off and parameters_file:
        raise errors.UsageError("name either --no-batching or a --batching_parameters_file")
    if parameters_file:
        return config_files.batching(parameters_file)
    return scheduler.Options(max_batch_size=1) if off else scheduler.Options()


def _metrics_path(monitoring_config_file: str) -> str:
    from longtail.serving.model_server import metrics
    from longtail.serving.model_server.config import files as config_files

    return config_files.metrics_path(monitoring_config_file) if monitoring_config_file else metrics.PATH


def _tls(certificate: str, key: str, client_ca: str, ssl_config_file: str) -> "tls_lib.Server | None":
    from longtail.models import errors
    from longtail.serving.model_server.config import files as config_files
    from longtail.serving.model_server.config import tls

    if not ssl_config_file:
        return tls.read(certificate, key, client_ca)
    if certificate or key or client_ca:
        raise errors.UsageError("name either an --ssl_config_file or the --tls- files")
    return config_files.ssl(ssl_config_file)


def _ready(server: "server_lib.ModelServer") -> str:
    sources = [source for name in server.models.names() if (source := server.models.source(name))]
    named = ", ".join(f"{source.name} version {source.get().version}" for source in sources) or "none yet"
    answers = server.retrieval is not None and server.retrieval.refusal is None
    with_gallery = f" with gallery {server.options.gallery}" if answers else ""
    at = f"http{'s' if server.options.tls else ''}://{server.rest_address}/v1/models/"
    path = sources[0].name if len(sources) == 1 else "NAME"
    plural = "s" if len(sources) > 1 else ""
    return f"serving model{plural} {named}{with_gallery}: gRPC {server.grpc_address}, REST {at}{path}"
