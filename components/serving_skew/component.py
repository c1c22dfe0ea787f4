"""How far the images that serving is asked about are from those it was trained on, feature by feature."""

from tfx.dsl.components.base import base_component
from tfx.dsl.components.base import executor_spec
from tfx.types import channel

from longtail.components import artifacts
from longtail.components import specs
from longtail.components.serving_skew import executor


class ServingSkew(base_component.BaseComponent):
    """Compares a request log with the span's own train images, as the gate compares two spans.

    The images are judged as ingestion judges them, and their scalars computed by the same code. The newest `images` of
    the log are looked at. Files that are damaged or hold something else are set aside and said.

    Outputs:
      report: rows of kind `skew`, each with a `histogram` (see
        `longtail.components.drift.histograms`), whose `current` is the
        requests' side and `baseline` training's, and the `request_log` they come from. No rows without a log, or
        with too few images in it; its note says so.
    """

    SPEC_CLASS = specs.declare(
        parameters={
            executor.REQUEST_LOG_KEY: str,
            executor.LISTING_KEY: str,
            executor.IMAGES_KEY: int,
            executor.MAX_PIXELS_KEY: int,
            executor.THRESHOLDS_KEY: str,
        },
        inputs={executor.SAMPLE_KEY: artifacts.SpanSample},
        outputs={executor.REPORT_KEY: artifacts.DriftReport},
    )
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)

    def __init__(
        self,
        sample: channel.BaseChannel,
        request_log: str,
        listing: str,
        max_pixels: int,
        thresholds: str,
        images: int = 2000,
    ):
        """Makes the component.

        Args:
          sample: SpanSampler's, of the span that is to be trained on.
          request_log: folder of TFRecord files of `tensorflow.serving.PredictionLog`; "" for none.
          listing: tells one state of the folder from another; the cache must not answer with what was there before.
          max_pixels: of an image that is decoded, as for ingestion.
          thresholds: JSON object feature -> threshold, over those that are measured.
          images: most images that are looked at.
        """
        spec = self.SPEC_CLASS(
            sample=sample,
            request_log=request_log,
            listing=listing,
            images=images,
            max_pixels=max_pixels,
            thresholds=thresholds,
        )
        super().__init__(spec=spec)
