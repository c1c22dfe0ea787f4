"""Reads TF Serving's own configuration files: text protos of models, batching, monitoring and TLS.

The wheel of TF Serving's API has the proto of the models alone; the others are declared here, with the names and
numbers of session_bundle_config.proto, monitoring_config.proto and ssl_config.proto.
"""

import dataclasses
import functools
import logging
from typing import Any
from typing import TypeVar

import tensorflow as tf
from google.protobuf import descriptor_pb2
from google.protobuf import descriptor_pool
from google.protobuf import message as message_lib
from google.protobuf import message_factory
from google.protobuf import text_format
from google.protobuf import wrappers_pb2
from tensorflow_serving.config import model_server_config_pb2

from longtail.models import errors
from longtail.serving.model_server import metrics
from longtail.serving.model_server.batching import scheduler as batching_lib
from longtail.serving.model_server.config import tls

log = logging.getLogger("longtail")

MODELS = "--model_config_file"

_FIELD = descriptor_pb2.FieldDescriptorProto
_INT64, _STRING, _BOOL = _FIELD.TYPE_INT64, _FIELD.TYPE_STRING, _FIELD.TYPE_BOOL

_Message = TypeVar("_Message", bound=message_lib.Message)

# message -> field -> its number, and its type: one of FieldDescriptorProto's, or the message of that name
_MESSAGES: dict[str, dict[str, tuple[int, int | str]]] = {
    "BatchingParameters": {
        "max_batch_size": (1, "google.protobuf.Int64Value"),
        "batch_timeout_micros": (2, "google.protobuf.Int64Value"),
        "max_enqueued_batches": (3, "google.protobuf.Int64Value"),
        "num_batch_threads": (4, "google.protobuf.Int64Value"),
        "thread_pool_name": (5, "google.protobuf.StringValue"),
        "allowed_batch_sizes": (6, _INT64),
        "pad_variable_length_inputs": (7, _BOOL),
        "enable_large_batch_splitting": (8, "google.protobuf.BoolValue"),
        "max_execution_batch_size": (9, "google.protobuf.Int64Value"),
    },
    "PrometheusConfig": {"enable": (1, _BOOL), "path": (2, _STRING)},
    "MonitoringConfig": {"prometheus_config": (1, "tensorflow.serving.PrometheusConfig")},
    "SSLConfig": {
        "server_key": (1, _STRING),
        "server_cert": (2, _STRING),
        "custom_ca": (3, _STRING),
        "client_verify": (4, _BOOL),
    },
}
_REPEATED = {"allowed_batch_sizes"}


@functools.cache
def _classes() -> dict[str, type[message_lib.Message]]:
    file = descriptor_pb2.FileDescriptorProto(
        name="longtail/tf_serving_configs.proto",
        package="tensorflow.serving",
        syntax="proto3",
        dependency=["google/protobuf/wrappers.proto"],
    )
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for key, (number, kind) in fields.items():
            label = _FIELD.LABEL_REPEATED if key in _REPEATED else _FIELD.LABEL_OPTIONAL
            field = message.field.add(name=key, number=number, label=label)
            if isinstance(kind, str):
                field.type, field.type_name = _FIELD.TYPE_MESSAGE, f".{kind}"
            else:
                field.type = kind  # type: ignore[assignment]
    pool = descriptor_pool.DescriptorPool()  # of our own: elsewhere these messages may be declared too
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    pool.AddSerializedFile(file.SerializeToString())
    factory = message_factory.MessageFactory(pool)
    return {name: factory.GetPrototype(pool.FindMessageTypeByName(f"tensorflow.serving.{name}")) for name in _MESSAGES}


def read(path: str, option: str) -> str:
    """The text of a file that `option` names.

    Raises:
      UsageError: it cannot be read, or is no text.
    """
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            return file.read().decode()
    except tf.errors.OpError as error:
        raise errors.UsageError(f"{option} {path} cannot be read: {error.message.rpartition('; ')[2]}") from error
    except UnicodeDecodeError as error:
        raise errors.UsageError(f"{option} {path} is not text: {error.reason} at byte {error.start}") from error


def _parse(text: str, message: _Message, path: str, option: str) -> _Message:
    try:
        return text_format.Parse(text, message)
    except text_format.ParseError as error:
        line = error.GetLine()
        where = f", line {line}" if line else ""
        what = str(error).partition(" : ")[2] or str(error)
        raise errors.UsageError(f"{option} {path}{where}: {what}") from error


def models(text: str, path: str) -> model_server_config_pb2.ModelServerConfig:
    """The ModelServerConfig in `text`, which came from `path`.

    Raises:
      UsageError: it is none, or not one of a list of models.
    """
    config = _parse(text, model_server_config_pb2.ModelServerConfig(), path, MODELS)
    if not config.HasField("model_config_list"):
        raise errors.UsageError(f"{MODELS} {path} has no model_config_list; nothing else can be served from it")
    return config


def batching(path: str) -> batching_lib.Options:
    """How a file of BatchingParameters wants requests run together; what it leaves out is our default.

    Raises:
      UsageError: it is no such file, or what it wants cannot be.
    """
    option = "--batching_parameters_file"
    message = _parse(read(path, option), _classes()["BatchingParameters"](), path, option)
    known = {field.name for field in dataclasses.fields(batching_lib.Options)}
    found: dict[str, Any] = {}
    for field, value in message.ListFields():
        if field.name in known:
            found[field.name] = value.value
        else:
            log.warning("%s %s: %s makes no difference here", option, path, field.name)
    try:
        return batching_lib.Options(**found)
    except ValueError as error:
        raise errors.UsageError(f"{option} {path}: {error}") from error


def metrics_path(path: str) -> str:
    """Where a file of MonitoringConfig wants Prometheus's metrics; empty where it wants none.

    Raises:
      UsageError: it is no such file, or names no path of a URL.
    """
    option = "--monitoring_config_file"
    prometheus = _parse(read(path, option), _classes()["MonitoringConfig"](), path, option).prometheus_config
    if not prometheus.enable:
        return ""
    found: str = prometheus.path or metrics.PATH
    if not found.startswith("/"):
        raise errors.UsageError(f"{option} {path}: prometheus_config.path must begin with /. Received: {found}")
    return found


def ssl(path: str) -> tls.Server:
    """What a file of SSLConfig says. It holds PEM texts, not paths; `custom_ca` counts with `client_verify` alone.

    Raises:
      UsageError: it is no such file, or its key and certificates are none.
    """
    option = "--ssl_config_file"
    config = _parse(read(path, option), _classes()["SSLConfig"](), path, option)
    names = (f"{option} {path}: server_cert", f"{option} {path}: server_key", f"{option} {path}: custom_ca")
    if config.client_verify and not config.custom_ca:
        raise errors.UsageError(f"{option} {path}: client_verify needs a custom_ca to check the clients against")
    client_ca = config.custom_ca.encode() if config.client_verify else None
    return tls.Server(config.server_cert.encode(), config.server_key.encode(), client_ca, names)
