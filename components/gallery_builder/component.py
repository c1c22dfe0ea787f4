"""Embeds the gallery with a pushed model and lays down the index the retrieval service searches."""

from tfx import types
from tfx.dsl.components.base import base_beam_component
from tfx.dsl.components.base import executor_spec
from tfx.types import standard_artifacts

from longtail.components import artifacts
from longtail.components import config
from longtail.components import specs
from longtail.components.gallery_builder import executor


class GalleryBuilder(base_beam_component.BaseBeamComponent):
    """Builds the gallery of a pushed model; nothing where the model was not pushed.

    Outputs:
      gallery: `index.faiss`, `items.jsonl` and `gallery.json`, as `longtail.models.export.signatures` describes
        them; custom property `built` is 0 where there was no pushed model. The same files stand in
        `<destination>/<model version>/`.
    """

    SPEC_CLASS = specs.declare(
        parameters={
            executor.DESTINATION_KEY: str,
            executor.MODEL_NAME_KEY: str,
            executor.WHOSE_KEY: str,
            executor.LISTING_KEY: str,
        },
        inputs={
            executor.WINDOW_KEY: artifacts.SpanWindow,
            executor.PUSHED_MODEL_KEY: standard_artifacts.PushedModel,
        },
        outputs={executor.GALLERY_KEY: artifacts.Gallery},
    )
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(executor.Executor)

    def __init__(
        self,
        window: types.BaseChannel,
        pushed_model: types.BaseChannel,
        destination: str,
        model_name: str,
        whose: str = config.Evaluation.gallery,
        listing: str = "",
    ):
        """Names what flows in.

        Args:
          window: SpanWindow's; the images of its spans that are no queries are embedded.
          pushed_model: PushedModel, as Pusher marks it.
          destination: the folder in which the gallery's version folder appears; `{MODEL}` in it stands for
            `model_name`.
          model_name: the name the model is served under, for the gallery's card.
          whose: `held_out`; `all`, of those who were trained on, too; or the folder or archive of those who are to be
            known, a folder an identity.
          listing: digest of that folder's files, part of the cache key.
        """
        super().__init__(
            self.SPEC_CLASS(
                window=window,
                pushed_model=pushed_model,
                destination=destination,
                model_name=model_name,
                whose=whose,
                listing=listing,
            )
        )
