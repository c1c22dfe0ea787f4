"""`longtail embed FOLDER`: a whole folder into one table, chunk by chunk, so that an interrupted one goes on."""

import hashlib
import io
import json
import logging
import os
import shutil
import zipfile
from collections.abc import Sequence
from typing import TYPE_CHECKING
from typing import Any

import numpy as np

from longtail.models import errors
from longtail.models import files
from longtail.models.export import signatures
from longtail.pipeline.cli import evaluate_images

if TYPE_CHECKING:
    from longtail.serving import client as client_lib

_CHUNK = 1024  # images read and embedded at once, and what an interruption costs at most
_FORMATS = (".parquet", ".npz")
_ARCHIVES = (".zip", ".tar")
_ABOUT = "about.json"

log = logging.getLogger("longtail")


def asked(images: Sequence[str], output: str) -> str:
    """The folder or archive to embed as a whole; "" where the images are files.

    Raises:
      errors.UsageError: the output does not fit what is embedded.
    """
    whole = [path for path in images if os.path.isdir(path) or path.endswith(_ARCHIVES)]
    is_table = output.endswith(_FORMATS)
    if whole and len(images) > 1:
        raise errors.UsageError(f"{whole[0]} is a folder or an archive: embed it by itself")
    if whole and not is_table:
        raise errors.UsageError(f"{whole[0]} is a folder or an archive: give --output FILE.parquet or FILE.npz")
    if is_table and not whole:
        raise errors.UsageError(f"--output {output}: a table is made of a folder or an archive; files go into .npy")
    if is_table and "://" in output:
        raise errors.UsageError(f"--output {output}: a table is written to a local file; copy it from there")
    return whole[0] if whole else ""


def embed(connection: "client_lib.Client", data: str, layout: str, output: str) -> dict[str, Any]:
    """Embeds all images of a folder or an archive by one version of the model.

    Chunks that are done lie in `OUTPUT.parts/` until the table is; the same call goes on after them.

    Args:
      connection: to the server.
      data: the folder or archive.
      layout: how paths tell identities.
      output: `.parquet` or `.npz`: `path`, `identity`, `sha256` of the file, `status` and `embedding`, a row an image.

    Returns:
      `output`, `images`, `failed` (rows of zeros), `resumed` (images that were done), `model_name`, `model_version`.

    Raises:
      errors.UsageError: there is no image, or the parts are of other images or of another model.
      errors.WorkError: the server fails, or could embed none.
    """
    images = evaluate_images.listed(data, layout)
    parts = f"{output}.parts"
    listing = hashlib.sha256(json.dumps([image.item.path for image in images]).encode()).hexdigest()
    about = {"data": os.path.abspath(data), "layout": layout, "listing": listing, "model_name": connection.model_name}
    version, resumed = _begun(parts, about), 0
    names = []
    for begin in range(0, len(images), _CHUNK):
        some = images[begin : begin + _CHUNK]
        names.append(os.path.join(parts, f"{begin:012d}.npz"))
        if version is not None and os.path.exists(names[-1]):
            resumed += len(some)
            continue
        version = _embed_chunk(connection, some, version, names[-1])
        files.write_json(os.path.join(parts, _ABOUT), {**about, "model_version": version})
        log.info("%d of %d images embedded", begin + len(some), len(images))
    failed = sum(int((np.load(name)["status"] != signatures.STATUS_OK).sum()) for name in names)
    if failed == len(images):
        shutil.rmtree(parts)
        raise errors.WorkError(f"none of {len(images)} images of {data} could be embedded")
    with files.replacing(output) as half:
        (_write_parquet if output.endswith(".parquet") else _write_npz)(half, names, len(images))
    shutil.rmtree(parts)
    counts = {"images": len(images), "failed": failed, "resumed": resumed}
    return {"output": output, **counts, "model_name": connection.model_name, "model_version": version}


def line(told: dict[str, Any]) -> str:
    """What `embed` returns, for people."""
    done = told["images"] - told["failed"]
    gone_on = f" ({told['resumed']} of them before)" if told["resumed"] else ""
    return errors.shown(
        f"{done} of {told['images']} images{gone_on}, model {told['model_name']} version {told['model_version']} -> "
        f"{told['output']}"
    )


def _begun(parts: str, about: dict[str, Any]) -> int | None:
    """The version that made the parts that are there; None where there are none."""
    try:
        with open(os.path.join(parts, _ABOUT), encoding="utf-8") as file:
            found = json.load(file)
        version = found.pop("model_version")
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, OSError) as error:
        raise errors.UsageError(f"{parts}: not what this command left ({error}); remove it") from error
    if found != about:
        raise errors.UsageError(f"{parts}: begun with other images or another model; remove it, or name another output")
    return version


def _embed_chunk(
    connection: "client_lib.Client", images: Sequence[evaluate_images.Image], version: int | None, name: str
) -> int:
    """Writes one part; returns the version that answered."""
    read = list(evaluate_images.read_ahead(images))
    embedded = connection.embed([encoded for encoded, _ in read], version)
    digests = [digest for _, digest in read]
    for image, digest, code in zip(images, digests, embedded.status.tolist(), strict=True):
        if digest and code != signatures.STATUS_OK:  # what could not be read is named already
            log.warning("left out: %s: %s", image.item.path, signatures.STATUS_MEANING.get(code, code))
    part = io.BytesIO()
    np.savez(
        part,
        path=np.array([image.item.path for image in images]),
        identity=np.array([image.item.identity for image in images]),
        sha256=np.array(digests),
        status=embedded.status,
        embedding=embedded.embedding,
    )
    files.write(name, part.getvalue())
    return embedded.model_version


def _write_parquet(half: str, names: Sequence[str], rows: int) -> None:
    """A row group a part."""
    import pyarrow
    from pyarrow import parquet

    writer = None
    try:
        for name in names:
            part = np.load(name)
            vectors = part["embedding"]
            rows_of_floats = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(vectors.ravel()), vectors.shape[1])
            columns = {column: pyarrow.array(part[column].tolist()) for column in ("path", "identity", "sha256")}
            table = pyarrow.table({**columns, "status": part["status"], "embedding": rows_of_floats})
            writer = writer or parquet.ParquetWriter(half, table.schema)
            writer.write_table(table)
    finally:
        if writer:
            writer.close()


def _write_npz(half: str, names: Sequence[str], rows: int) -> None:
    """An array a column, each written part by part."""
    with zipfile.ZipFile(half, "w") as archive:
        for column in ("path", "identity", "sha256", "status", "embedding"):
            kinds = [(part.dtype, part.shape[1:]) for part in (np.load(name)[column] for name in names)]
            dtype = np.result_type(*(kind for kind, _ in kinds))
            about = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False}
            with archive.open(f"{column}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array_header_2_0(file, {**about, "shape": (rows, *kinds[0][1])})
                for name in names:
                    file.write(np.ascontiguousarray(np.load(name)[column], dtype).tobytes())
