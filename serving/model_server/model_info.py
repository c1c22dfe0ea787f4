"""What a client can ask of a model besides its answers: which versions there are, and what they take and give."""

from collections.abc import Sequence

from tensorflow_serving.apis import get_model_metadata_pb2
from tensorflow_serving.apis import get_model_status_pb2
from tensorflow_serving.apis import model_pb2

from serving.model_server import loader
from serving.model_server import request_errors

SIGNATURE_DEF = "signature_def"  # the one metadata field TF Serving has


def name_and_version(spec: model_pb2.ModelSpec) -> tuple[str, int | None]:
    """The model and version a spec names; None is the latest.

    Raises:
      RequestError: INVALID_ARGUMENT, no name, or a label instead of a version.
    """
    if not spec.name:
        raise request_errors.invalid("ModelSpec has no name specified.")
    if spec.version_label:
        raise request_errors.invalid(
            "ModelSpec has 'version_label' set, but it is not currently allowed by the server."
        )
    return spec.name, spec.version.value if spec.HasField("version") else None


def status(source: loader.ModelSource, name: str, version: int | None) -> get_model_status_pb2.GetModelStatusResponse:
    """The state of every version, or of one.

    Raises:
      RequestError: NOT_FOUND, there is no such model or version.
    """
    response = get_model_status_pb2.GetModelStatusResponse()
    for state in source.states(name, version):
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
    source: loader.ModelSource, name: str, version: int | None
) -> get_model_metadata_pb2.GetModelMetadataResponse:
    """The signatures of the latest version, or of one.

    Raises:
      RequestError: NOT_FOUND, there is no such model or version.
    """
    servable = source.get(name, version)
    definitions = get_model_metadata_pb2.SignatureDefMap()
    for key, signature in servable.signatures.items():
        definitions.signature_def[key].CopyFrom(signature.definition())
    response = get_model_metadata_pb2.GetModelMetadataResponse()
    response.model_spec.name = servable.name
    response.model_spec.version.value = servable.version
    response.metadata[SIGNATURE_DEF].Pack(definitions)
    return response
