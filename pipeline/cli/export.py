"""`longtail export`: the embedder for other runtimes, checked against the original before it appears."""

import enum
import json
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING
from typing import Annotated
from typing import Any

import typer

from longtail.models import errors
from longtail.models import files as files_lib

if TYPE_CHECKING:
    import numpy as np

    from longtail.models.export import portable

_BATCH = 64
_CELLS = 1 << 22  # similarities held at once, 16 MiB
_SAMPLE = 200  # images that int8's ranges are measured on
_BOUND = 1e-4  # of 1 - cosine to the original's embedding, of the worst image
_BOUND_INT8 = 0.1

log = logging.getLogger("longtail")


class Format(str, enum.Enum):
    onnx = "onnx"
    tflite = "tflite"


def export(
    model: Annotated[
        str, typer.Option(help="SavedModel: a version folder, or a folder of versions (the last).")
    ],
    data: Annotated[
        str, typer.Option(help="Folder or .zip of images, a folder an identity, that the result is checked on.")
    ],
    output: Annotated[str, typer.Option(help="File to write.", metavar="FILE")],
    format_: Annotated[Format, typer.Option("--format", help="For ONNX Runtime, or for TensorFlow Lite.")],
    int8: Annotated[
        bool, typer.Option("--int8", help="Of TensorFlow Lite: 8-bit weights and activations, a quarter of the size.")
    ] = False,
    bound: Annotated[
        float | None,
        typer.Option(
            help="Largest 1 - cosine between an image's two embeddings; beyond it, nothing is written.",
            show_default=f"{_BOUND:g}, {_BOUND_INT8:g} with --int8",
            min=0.0,
        ),
    ] = None,
    images: Annotated[int, typer.Option(help="How many images are checked, at most.", min=2)] = 1000,
    layout: Annotated[str, typer.Option(help="How paths tell identities.")] = "folder",
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Writes the embedder for another runtime, if it embeds real images as the original does.

    It takes pixels, uint8 [N, h, w, c], of the model's own size, and gives embeddings: decoding,
    and resizing with antialiasing, stay with whoever asks.
    """
    if int8 and format_ is not Format.tflite:
        raise errors.UsageError(f"--int8 is for --format {Format.tflite.value}")
    files_lib.check_place("--output", output)
    import numpy as np

    from longtail.models.export import portable
    from longtail.pipeline import console
    from longtail.pipeline.cli import evaluate_images

    if format_ is Format.onnx:
        portable.check_installed()
    with console.lines():
        original = portable.Embedder(evaluate_images.model_folder(model))
        listed = evaluate_images.listed(data, layout)
        evaluate_images.check_identities(listed)
        pixels, identities = _pixels(original, [listed[place] for place in spread(len(listed), images)])
        if len(pixels) < 2:
            raise errors.WorkError(f"{data}: {len(pixels)} images can be decoded; two at least are needed to check")
        log.info("converting to %s", format_.value)
        converted, run = _convert(original, format_, pixels if int8 else None)
        figures = _compare(_embed(original, pixels), _embed(run, pixels), np.array(identities))
        limit = bound if bound is not None else _BOUND_INT8 if int8 else _BOUND
        if not figures["largest_distance"] <= limit:
            raise errors.WorkError(
                f"{format_.value}: an image's embedding is {figures['largest_distance']:.3g} (1 - cosine) from the "
                f"original's, more than {limit:g}; nothing is written (--bound allows more)"
            )
        files_lib.write(output, converted)
    _print({"output": output, "bytes": len(converted), **figures}, as_json)


def spread(count: int, most: int) -> "np.ndarray":
    """Places of `most` of `count` things, int [min(count, most)], from the first to the last at even distances."""
    import numpy as np

    return np.linspace(0, count - 1, min(count, most)).astype(int)


def _pixels(model: "portable.Embedder", images: Sequence) -> tuple["np.ndarray", list[str]]:
    """Images as the model sees them, uint8 [N, h, w, c], and whose they are; what cannot be decoded is named."""
    import numpy as np

    from longtail.pipeline.cli import evaluate_images

    found, identities = [], []
    for image, file in zip(images, evaluate_images.read_ahead(images), strict=True):
        if not file.encoded:
            continue
        try:
            found.append(model.pixels(file.encoded))
        except ValueError as error:
            log.warning("left out: %s: %s", image.item.path, str(error).splitlines()[0])
            continue
        identities.append(image.item.identity)
    return np.stack(found) if found else np.zeros((0, *model.image), np.uint8), identities


def _convert(
    original: "portable.Embedder", format_: Format, sample: "np.ndarray | None"
) -> tuple[bytes, "portable.Run"]:
    from longtail.models.export import portable

    if format_ is Format.onnx:
        converted = portable.to_onnx(original)
        return converted, portable.run_onnx(converted)
    some = None if sample is None else sample[spread(len(sample), _SAMPLE)]
    converted = portable.to_tflite(original, some)
    return converted, portable.run_tflite(converted)


def _embed(run: "portable.Run", pixels: "np.ndarray") -> "np.ndarray":
    import numpy as np

    return np.concatenate([run(pixels[begin : begin + _BATCH]) for begin in range(0, len(pixels), _BATCH)])


def nearest(vectors: "np.ndarray") -> "np.ndarray":
    """The row of each row's nearest other one by the dot product, int [N], of float [N, d]; holds 16 MiB or a row."""
    import numpy as np

    rows, found = max(1, _CELLS // len(vectors)), []
    for begin in range(0, len(vectors), rows):
        similarity = vectors[begin : begin + rows] @ vectors.T
        row = np.arange(len(similarity))
        similarity[row, begin + row] = -np.inf
        found.append(similarity.argmax(axis=1))
    return np.concatenate(found)


def _compare(original: "np.ndarray", converted: "np.ndarray", identities: "np.ndarray") -> dict[str, Any]:
    """How far two embeddings of the same images are from each other.

    `largest_distance` is NaN, and so within no bound, where the converted model gives no number.
    """
    import numpy as np

    from longtail.models.metrics import retrieval

    def rank1(vectors: np.ndarray) -> float | None:
        scores = retrieval.score_queries(vectors, identities, vectors, identities, exclude_self=True)
        scored = scores.matches > 0
        return float((scores.first[scored] == 1).mean()) if scored.any() else None

    finite = bool(np.isfinite(converted).all())
    cosine = np.einsum("nd,nd->n", original, converted) / np.maximum(np.linalg.norm(converted, axis=1), 1e-12)
    return {
        "images": len(original),
        "largest_difference": float(np.abs(original - converted).max()),
        "largest_distance": float(1 - cosine.min()),
        "same_nearest": float((nearest(original) == nearest(converted)).mean()),
        "rank1_original": rank1(original),
        "rank1": rank1(converted) if finite else None,
    }


def _print(figures: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(figures))
        return
    ranks = [figures["rank1_original"], figures["rank1"]]
    shown = " and ".join("-" if rank is None else f"{100 * rank:.2f} %" for rank in ranks)
    typer.echo(
        errors.shown(
            f"{figures['output']}: {figures['bytes'] / 1024:.0f} KiB; on {figures['images']} images the largest "
            f"difference is {figures['largest_difference']:.2g} and the largest 1 - cosine "
            f"{figures['largest_distance']:.2g}; the same image is nearest for {100 * figures['same_nearest']:.2f} %; "
            f"Rank-1 {shown} (original, converted)"
        )
    )
