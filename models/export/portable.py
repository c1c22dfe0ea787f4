"""The embedder for other runtimes, ONNX and TensorFlow Lite: what a model's `pixels` signature computes."""

import contextlib
import io
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from longtail.models import errors
from longtail.models.export import signatures

_OPSET = 17  # of ONNX: ONNX Runtime 1.12 and later, 2022

Run = Callable[[np.ndarray], np.ndarray]  # uint8 [N, h, w, c] -> float32 [N, d]


class Embedder:
    """What a SavedModel makes of pixels.

    Args:
      folder: with `saved_model.pb`.

    Attributes:
      image: h, w, c of its images.

    Raises:
      errors.UsageError: it has no signature that takes pixels, or cannot be loaded.
    """

    def __init__(self, folder: str):
        try:
            self._model = tf.saved_model.load(folder)  # kept: its variables go with it
        except (OSError, ValueError, tf.errors.OpError) as error:
            raise errors.UsageError(
                f"{folder}: not loadable as a SavedModel: {errors.first_line(error)}"
            ) from error
        signature = self._model.signatures.get(signatures.PIXELS)
        takes = signature.structured_input_signature[1] if signature else {}
        if set(takes) != {signatures.PIXELS_INPUT} or signatures.EMBEDDING not in signature.structured_outputs:
            raise errors.UsageError(
                f"{folder} has no signature '{signatures.PIXELS}' from {signatures.PIXELS_INPUT} to "
                f"{signatures.EMBEDDING}; export a model that longtail trained"
            )
        spec = takes[signatures.PIXELS_INPUT]
        self.image = tuple(spec.shape[1:])

        @tf.function(input_signature=[tf.TensorSpec(spec.shape, spec.dtype, name=signatures.PIXELS_INPUT)])
        def embed(pixels):
            return {signatures.EMBEDDING: signature(**{signatures.PIXELS_INPUT: pixels})[signatures.EMBEDDING]}

        self.function = embed

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Embeds uint8 [N, h, w, c] as float32 [N, d]."""
        return self.function(tf.constant(pixels))[signatures.EMBEDDING].numpy()

    def pixels(self, encoded: bytes) -> np.ndarray:
        """An encoded JPEG or PNG as the model sees it, uint8 [h, w, c].

        Raises:
          ValueError: no decoder takes it.
        """
        from longtail.models.export import preprocess

        height, width, channels = self.image
        try:
            decoded = preprocess.decode_one(tf.constant(encoded), channels)
        except tf.errors.OpError as error:
            raise ValueError(error.message) from error
        resized = tf.image.resize(decoded, [height, width], antialias=True)
        return tf.cast(tf.clip_by_value(tf.round(resized), 0, 255), tf.uint8).numpy()


def check_installed() -> None:
    """Raises errors.UsageError where what ONNX takes is not installed."""
    try:
        import onnxruntime  # noqa: F401
        import tf2onnx  # noqa: F401
    except ImportError as error:
        raise errors.UsageError(
            f"--format onnx: {error.name} is not installed; pip install tf2onnx onnxruntime"
        ) from error


def to_onnx(embedder: Embedder) -> bytes:
    """The model as ONNX: input `pixels`, uint8 [N, h, w, c]; output `embedding`, float32 [N, d].

    Raises:
      errors.UsageError: tf2onnx is not installed.
      errors.WorkError: an operation of the model has no counterpart.
    """
    check_installed()
    import tf2onnx

    try:
        model, _ = tf2onnx.convert.from_function(
            embedder.function, input_signature=embedder.function.input_signature, opset=_OPSET
        )
    except Exception as error:  # of whatever kind, by tf2onnx's own words
        raise errors.WorkError(f"tf2onnx cannot convert the model: {errors.first_line(error)}") from error
    return model.SerializeToString()


def run_onnx(model: bytes) -> Run:
    """What ONNX Runtime makes of a model of `to_onnx`."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return lambda pixels: session.run([signatures.EMBEDDING], {signatures.PIXELS_INPUT: pixels})[0]


def to_tflite(embedder: Embedder, sample: Iterable[np.ndarray] | None = None) -> bytes:
    """The model as TensorFlow Lite, of the same input and output as ONNX's, with a batch that can be resized.

    Args:
      embedder: the model.
      sample: images, uint8 [h, w, c], such as will be asked: weights and activations become int8, by their ranges.

    Raises:
      errors.WorkError: an operation of the model has no counterpart.
    """
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [embedder.function.get_concrete_function()], embedder.function
    )
    if sample is not None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([image[None]] for image in sample)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    try:
        with _quiet():
            return converter.convert()
    except Exception as error:  # of whatever kind, by the converter's own words
        raise errors.WorkError(f"TensorFlow Lite cannot convert the model: {errors.first_line(error)}") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the converter's own report, which it prints."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def run_tflite(model: bytes) -> Run:
    """What TensorFlow Lite's interpreter makes of a model of `to_tflite`."""
    interpreter = tf.lite.Interpreter(model_content=model)
    [given], [answer] = interpreter.get_input_details(), interpreter.get_output_details()

    def run(pixels: np.ndarray) -> np.ndarray:
        interpreter.resize_tensor_input(given["index"], pixels.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(given["index"], pixels)
        interpreter.invoke()
        return interpreter.get_tensor(answer["index"])

    return run
