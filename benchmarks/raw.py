"""The limit of a SavedModel, in a process of its own: `python -m longtail.benchmarks.raw FOLDER IMAGES INTRA INTER`."""

import json
import pickle
import sys
import threading
import time
from collections.abc import Callable
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from longtail.models.export import signatures


def load(folder: str, intra: int, inter: int) -> Callable[[np.ndarray], list[np.ndarray]]:
    """The model's answer to encoded images, through a session of TensorFlow's, the cheapest way that it has.

    Args:
      folder: of the SavedModel.
      intra: threads of one op.
      inter: threads of ops that run at once; -1 runs them in the caller's.
    """
    tf.get_logger().setLevel("ERROR")  # of what is deprecated; TF Serving loads so, too
    config = tf.compat.v1.ConfigProto(
        intra_op_parallelism_threads=intra, inter_op_parallelism_threads=inter, use_per_session_threads=True
    )
    session = tf.compat.v1.Session(graph=tf.Graph(), config=config)
    with session.graph.as_default():
        graph = tf.compat.v1.saved_model.load(session, [tf.saved_model.SERVING], folder)
    signature = graph.signature_def[signatures.SERVING]
    fetches = [signature.outputs[name].name for name in (signatures.EMBEDDING, signatures.STATUS)]
    return session.make_callable(fetches, [signature.inputs[signatures.IMAGE_BYTES].name])


def batches(images: list[bytes], size: int) -> Iterator[np.ndarray]:
    """Batches of the images in turn, for ever."""
    at = 0
    while True:
        yield np.array([images[(at + row) % len(images)] for row in range(size)], object)
        at += size


def measure(
    run: Callable[[np.ndarray], object], images: list[bytes], size: int, seconds: float, callers: int
) -> dict[str, float]:
    """Images embedded and CPU seconds of this process in about `seconds`, by `callers` threads."""
    until = time.monotonic() + seconds
    counts = [0] * callers

    def call(number: int) -> None:
        for batch in batches(images, size):
            run(batch)
            counts[number] += size
            if time.monotonic() >= until:
                return

    before = time.process_time()
    threads = [threading.Thread(target=call, args=[number]) for number in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"images": sum(counts), "cpu_s": time.process_time() - before}


def main() -> None:
    """Answers each line "BATCH SECONDS CALLERS" on standard input with a JSON object of what was measured."""
    folder, file_of_images, intra, inter = sys.argv[1:]
    with open(file_of_images, "rb") as file:
        images = pickle.load(file)
    run = load(folder, int(intra), int(inter))
    for line in sys.stdin:
        size, seconds, callers = line.split()
        print(json.dumps(measure(run, images, int(size), float(seconds), int(callers))), flush=True)


if __name__ == "__main__":
    main()
