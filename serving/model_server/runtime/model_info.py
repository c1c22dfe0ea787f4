"""What a client can ask of a model besides its answers: which versions there are, and what they take and give."""

from collections.abc import Sequence

from tensorflow_serving.apis import get_model_metadata_pb2
from tensorflow_serving.apis import get_model_status_pb2
from tensorflow_serving.apis import model_pb2

from longtail.serving.model_server.runtime import models as models_lib
from longtail.serving.model_server.runtime import request_errors

SIGNATURE_DEF = "signature_def"  # the one metadata field TF Serving has


def wanted(spec: model_pb2.ModelSpec) -> tuple[str, int | None, str]:
    """Name, version and label that a spec names, INVALID_ARGUMENT where no name; no version and label: the latest."""
    if not spec.name:
        raise request_errors.invalid("ModelSpec has no name specified.")
    return spec.name, spec.version.value if spec.HasField("version") else None, spec.version_label


def status(models: models_lib.Models, name: str, version: int | None) -> get_model_status_pb2.GetModelStatusResponse:
    """The state of every version, or of one; NOT_FOUND where there is none. A label does not count, as in TF Serving.

    A request without a name is answered as one for a model that is not there, as get_model_status_impl.cc does.
    """
    response = get_model_status_pb2.GetModelStatusResponse()
    for state in models.states(name, version):
        entry = response.model_version_status.add(version=state.version, state=state.state)
        entry.status.error_code = state.error_code
        entry.status.error_message = state.error_message
    return response


def check_fields(fields: Sequence[str]) -> None:
    """Raises INVALID_ARGUMENT unless the metadata asked for is what TF Serving has."""
    if not fields:
        raise request_errors.invalid("GetModelMetadataRequest must specify at least one metadata_field")
    for field in fields:
        if field != SIGNATURE_DEF:
            raise request_errors.invalid(f"Metadata field {field} is not supported")


def metadata(
    models: models_lib.Models, name: str, version: int | None, label: str = ""
) -> get_model_metadata_pb2.GetModelMetadataResponse:
    """The signatures of the latest version, or of one; NOT_FOUND (of a label, INVALID_ARGUMENT) without."""
    servable = models.get(name, version, label)
    definitions = get_model_metadata_pb2.SignatureDefMap()
    for key, definition in servable.definitions.items():
        definitions.signature_def[key].CopyFrom(definition)
    response = get_model_metadata_pb2.GetModelMetadataResponse()
    response.model_spec.name = servable.name
    response.model_spec.version.value = servable.version
    response.metadata[SIGNATURE_DEF].Pack(definitions)
    return response
