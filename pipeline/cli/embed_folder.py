"""`longtail embed FOLDER`: a whole folder into one table, chunk by chunk, so that an interrupted one goes on."""

import contextlib
import fcntl
import io
import json
import logging
import os
import shutil
import zipfile
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

import numpy as np

from longtail.models import errors
from longtail.models import files
from longtail.models.export import signatures
from longtail.pipeline.cli import evaluate_images
from longtail.serving import client as client_lib

# A part is embedded at once, and what an interruption costs at most: so many images, or so many encoded bytes.
_CHUNK = 1024
_CHUNK_BYTES = 256 << 20
_AHEAD = 32  # images read while a part is embedded
_SAME = 1e-5  # 1 - cosine of one image's two embeddings by one model
_FORMATS = (".parquet", ".npz")
_ARCHIVES = (".zip", ".tar")
_ABOUT = "about.json"
_LOCK = ".lock"

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
    if whole and os.path.commonpath([os.path.abspath(output), os.path.abspath(whole[0])]) == os.path.abspath(whole[0]):
        raise errors.UsageError(f"--output {output}: lies in the folder that is embedded; name a file outside of it")
    return whole[0] if whole else ""


def embed(connection: client_lib.Client, data: str, layout: str, output: str) -> dict[str, Any]:
    """Embeds all images of a folder or an archive by one version of the model.

    Parts that are done lie in `OUTPUT.parts/` until the table is; the same call goes on after them, if the data is
    still the same, byte for byte as far as sizes and times tell, and the server embeds an image of them as before.

    Args:
      connection: to the server.
      data: the folder or archive.
      layout: how paths tell identities.
      output: `.parquet` or `.npz`: `path`, `identity`, `sha256` of the file ("" where it could not be read), `status`
        (`longtail.models.export.signatures.STATUS_MEANING`) and `embedding`, a row an image.

    Returns:
      `output`, `images`, `failed` (rows of zeros), `resumed` (images that were done), `model_name`, `model_version`.

    Raises:
      errors.UsageError: there is no image; the parts are of other images or of another model, or not of this command;
        another process is at work on them.
      errors.WorkError: the server fails, no longer has the version of the parts, or could embed none.
    """
    images = evaluate_images.listed(data, layout)
    parts = f"{output}.parts"
    about = {
        "data": os.path.abspath(data),
        "layout": layout,
        "fingerprint": images[0].source.fingerprint(),
        "chunk": [_CHUNK, _CHUNK_BYTES],
        "model_name": connection.model_name,
    }
    with _held(parts):
        version = _begun(parts, about)
        names = [] if version is None else _finished(parts)
        resumed = sum(len(np.load(name)["status"]) for name in names)
        names, version = _go_on(connection, images, names, version, parts, about)
        failed = sum(int((np.load(name)["status"] != signatures.STATUS_OK).sum()) for name in names)
        if failed < len(images):
            with files.replacing(output) as half:
                (_write_parquet if output.endswith(".parquet") else _write_npz)(half, names, len(images))
        shutil.rmtree(parts)
    if failed == len(images):
        raise errors.WorkError(f"none of {len(images)} images of {data} could be embedded")
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


@contextlib.contextmanager
def _held(parts: str) -> Iterator[None]:
    """Keeps a second process out of the folder of parts, which is made, and removed where nothing came of it."""
    try:
        os.makedirs(parts, exist_ok=True)
        file = open(os.path.join(parts, _LOCK), "w", encoding="utf-8")  # noqa: SIM115
    except OSError as error:
        raise errors.UsageError(f"{parts}: cannot be written ({error.strerror}); name another output") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise errors.UsageError(
                f"{parts}: another process is at work there; wait for it, or name another output"
            ) from error
        try:
            yield
        finally:
            if os.path.isdir(parts) and os.listdir(parts) == [_LOCK]:
                shutil.rmtree(parts)


def _begun(parts: str, about: dict[str, Any]) -> int | None:
    """The version that made the parts that are there; None where there are none."""
    try:
        with open(os.path.join(parts, _ABOUT), encoding="utf-8") as file:
            found = json.load(file)
        version = found.pop("model_version")
    except FileNotFoundError:
        strange = [name for name in os.listdir(parts) if name != _LOCK and not name.startswith(files.UNFINISHED)]
        if strange:
            raise errors.UsageError(
                f"{parts}: not made by this command ({strange[0]} is in it, and no {_ABOUT}); name another output"
            ) from None
        return None
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise errors.UsageError(f"{parts}: not what this command left ({error}); remove it") from error
    if found != about:
        raise errors.UsageError(f"{parts}: begun with other images or another model; remove it, or name another output")
    return version


def _finished(parts: str) -> list[str]:
    """The parts that are there, in the images' order."""
    return [os.path.join(parts, name) for name in sorted(os.listdir(parts)) if name[:1].isdigit()]


def _embed(
    connection: client_lib.Client, images: Sequence[bytes], version: int | None, parts: str
) -> client_lib.Embedded:
    """As the client does; says what becomes of the parts where their version is gone."""
    try:
        return connection.embed(images, version)
    except client_lib.VersionNotServedError as error:
        answering = " and ".join(map(str, error.available)) or "none"
        raise errors.WorkError(
            f"{parts} is of model {connection.model_name} version {version}, but the server at {connection.server} "
            f"answers with version {answering}; serve version {version} again, or remove {parts} to begin anew"
        ) from error


def _check_model(
    connection: client_lib.Client,
    images: Sequence[evaluate_images.Image],
    names: Sequence[str],
    version: int | None,
    parts: str,
) -> None:
    """Raises errors.UsageError where the server embeds an image of the newest part in another way than it was."""
    for name in reversed(names):
        with np.load(name) as part:
            embedded, vectors = np.flatnonzero(part["status"] == signatures.STATUS_OK), part["embedding"]
        if len(embedded):
            break
    else:
        return
    row = int(embedded[0])
    begin = int(os.path.splitext(os.path.basename(name))[0])
    [file] = evaluate_images.read_ahead([images[begin + row]])
    now = _embed(connection, [file.encoded], version, parts).embedding[0]
    # Both are of length 1, or zeros where the file cannot be read any more.
    if now.shape != vectors[row].shape or not 1 - float(vectors[row] @ now) <= _SAME:
        raise errors.UsageError(
            f"{parts}: begun with another model than {connection.model_name} version {version} at {connection.server}: "
            f"it embeds {images[begin + row].item.path} otherwise; serve the other one, or remove {parts} to begin anew"
        )


def _go_on(
    connection: client_lib.Client,
    images: Sequence[evaluate_images.Image],
    names: list[str],
    version: int | None,
    parts: str,
    about: dict[str, Any],
) -> tuple[list[str], int | None]:
    """Embeds what is not in the parts yet; returns all parts and the version that made them."""
    done = sum(len(np.load(name)["status"]) for name in names)
    if names and done < len(images):
        _check_model(connection, images, names, version, parts)
    for read in _chunks(evaluate_images.read_ahead(images[done:], _AHEAD)):
        some = images[done : done + len(read)]
        embedded = _embed(connection, [file.encoded for file in read], version, parts)
        if version is None:  # before the first part: parts without it are nobody's
            version = embedded.model_version
            files.write_json(os.path.join(parts, _ABOUT), {**about, "model_version": version})
        names = [*names, os.path.join(parts, f"{done:012d}.npz")]
        _write_part(names[-1], some, read, embedded)
        done += len(some)
        log.info("%d of %d images done", done, len(images))
    return names, version


def _chunks(read: Iterable[evaluate_images.File]) -> Iterator[list[evaluate_images.File]]:
    """What becomes a part each: closed by its images or by its bytes, whichever comes first."""
    some: list[evaluate_images.File] = []
    size = 0
    for file in read:
        some.append(file)
        size += len(file.encoded)
        if len(some) == _CHUNK or size >= _CHUNK_BYTES:
            yield some
            some, size = [], 0
    if some:
        yield some


def _write_part(
    name: str,
    images: Sequence[evaluate_images.Image],
    read: Sequence[evaluate_images.File],
    embedded: client_lib.Embedded,
) -> None:
    """Writes one part, and names what the server could not embed."""
    here = np.array([file.status for file in read], np.int32)  # what was no picture here was sent as nothing
    for image, file, code in zip(images, read, embedded.status.tolist(), strict=True):
        if file.encoded and code != signatures.STATUS_OK:
            log.warning("left out: %s: %s", image.item.path, signatures.STATUS_MEANING.get(code, code))
    part = io.BytesIO()
    np.savez(
        part,
        path=np.array([image.item.path for image in images]),
        identity=np.array([image.item.identity for image in images]),
        sha256=np.array([file.digest for file in read]),
        status=np.where(here, here, embedded.status),
        embedding=embedded.embedding,
    )
    files.write(name, part.getvalue())


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
