"""Makes the training set's balance a choice: as found, capped, repeated, or carved into <H,S> or <H,T>."""

from tfx.dsl.components.base import base_beam_component
from tfx.dsl.components.base import executor_spec
from tfx.types import channel
from tfx.types import standard_artifacts

from longtail.components import artifacts
from longtail.components import config
from longtail.components import runtime
from longtail.components import specs
from longtail.components.rebalancer import census
from longtail.components.rebalancer import executor


class Rebalancer(base_beam_component.BaseBeamComponent):
    """Rebalances the train splits of a window of spans and gives every identity its dense class id.

    Class ids follow the ledger: whoever was accepted first has the lowest. So with all spans in the window a new
    identity appends and nobody is renumbered. The same file in two spans is one image.

    Cost for N images of C identities: the train splits are read twice, and written to a spool below the
    output that is removed in the end; O(N log N) work over all workers. What Beam shuffles are paths,
    digests and places in the spool, not bytes. A worker holds one identity's of those, one record,
    and the plan, some hundred bytes an identity. One process holds the census, O(C).

    Outputs:
      rebalanced_examples: split `train` alone; ingested tf.Examples with `class_id`, in gzip
        TFRecord files of about 4096 records, shuffled over all files by a seeded hash. The same
        input and seed give the same files.
      census: `census.json`, as `census.read_census` returns it. `images` is K_i: distinct images
        by their sha256, however often each is repeated.
    """

    SPEC_CLASS = specs.declare(
        parameters={
            executor.STRATEGY_KEY: str,
            executor.HEAD_KEY: int,
            executor.TAIL_IMAGES_KEY: int,
            executor.TAIL_CLASSES_KEY: int,
            executor.TAIL_CAMERAS_KEY: int,
            executor.CAP_KEY: int,
            executor.REPEAT_TO_KEY: int,
            executor.SEED_KEY: int,
            executor.LEAP_VARIANT_KEY: str,
            executor.HEAD_THRESHOLD_KEY: int,
        },
        inputs={executor.WINDOW_KEY: artifacts.SpanWindow},
        outputs={
            executor.REBALANCED_EXAMPLES_KEY: standard_artifacts.Examples,
            executor.CENSUS_KEY: artifacts.ClassCensus,
        },
    )
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(executor.Executor)

    def __init__(
        self,
        window: channel.BaseChannel,
        strategy: str,
        head: int,
        tail_images: int,
        tail_classes: int,
        tail_cameras: int,
        cap: int,
        repeat_to: int,
        seed: int,
        leap_variant: str,
        head_threshold: int,
    ):
        """Makes the component.

        Args:
          window: SpanWindow's: the spans whose train splits are read.
          strategy: 'none', 'cap', 'repeat' or 'carve', as `census.plan` describes them.
          head: carve's H, identities that keep all their images.
          tail_images: carve's S, images each of the others keeps.
          tail_classes: carve's T, how many of the others stay; 0 for all.
          tail_cameras: of how many of its cameras the images of each of the others are; 0 for all.
          cap: images an identity keeps at most.
          repeat_to: rows an identity gets at least.
          seed: of the choice and of the shuffle.
          leap_variant: of the cloud to be trained with: a vanilla one without a head class is refused.
          head_threshold: identities with more images than that are its head classes.

        Raises:
          errors.UsageError: a parameter out of range.
        """
        if runtime.known(strategy, head, tail_images, tail_classes, tail_cameras, cap, repeat_to, seed):
            census.check(
                config.Rebalance(strategy, head, tail_images, tail_classes, tail_cameras, cap, repeat_to, seed)
            )
        spec = self.SPEC_CLASS(
            window=window,
            strategy=strategy,
            head=head,
            tail_images=tail_images,
            tail_classes=tail_classes,
            tail_cameras=tail_cameras,
            cap=cap,
            repeat_to=repeat_to,
            seed=seed,
            leap_variant=leap_variant,
            head_threshold=head_threshold,
        )
        super().__init__(spec=spec)
