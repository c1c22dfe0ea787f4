"""Embedding as a Beam step: each worker loads the model once and embeds batches."""

from collections.abc import Iterator

import apache_beam as beam
import numpy as np

from longtail.components import embedding


class Embed(beam.PTransform):
    """(key str, encoded image) -> (key, embedding float32 [d], status int)."""

    def __init__(self, model_uri: str, batch: int = embedding.BATCH):
        """Remembers where the model is; it is loaded by the workers.

        Args:
          model_uri: a folder with `saved_model.pb`.
          batch: images a call, at most.
        """
        super().__init__()
        self._model_uri = model_uri
        self._batch = batch

    def expand(self, images: beam.PCollection) -> beam.PCollection:
        """Batches and embeds."""
        return (
            images
            | "Batch" >> beam.BatchElements(min_batch_size=self._batch, max_batch_size=self._batch)
            | "Embed" >> beam.ParDo(_EmbedBatch(self._model_uri))
        )


class _EmbedBatch(beam.DoFn):
    def __init__(self, model_uri: str):
        self._model_uri = model_uri
        self._embedder: embedding.Embedder | None = None

    def setup(self) -> None:
        self._embedder = embedding.Embedder(self._model_uri)

    def process(self, batch: list[tuple[str, bytes]]) -> Iterator[tuple[str, np.ndarray, int]]:
        assert self._embedder is not None  # made by `setup`
        keys, images = zip(*batch, strict=True)
        embeddings, status = self._embedder(images)
        yield from zip(keys, embeddings, status.tolist(), strict=True)
