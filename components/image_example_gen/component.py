"""ImageExampleGen: turns a source of images into Examples, and sets aside what is bad in it."""

from tfx.dsl.components.base import base_beam_component
from tfx.dsl.components.base import executor_spec
from tfx.types import standard_artifacts

from longtail.components import artifacts
from longtail.components import runtime
from longtail.components import specs
from longtail.components.image_example_gen import division
from longtail.components.image_example_gen import executor


class ImageExampleGen(base_beam_component.BaseBeamComponent):
    """Reads images per identity, checks each with the decoder that serves, and splits by identity.

    An identity that an accepted span had stays on its side for ever, whatever layout, `eval_fraction` or `seed` say
    now; nothing of a withdrawn one is read.

    Outputs:
      examples: gzipped TFRecord of tf.Example (see longtail.components.data.features) in splits `train` and
        `eval`. No identity is in both, and none changes sides when data is added. Each eval
        identity has `gallery` images and, if it has two images or more, `query` images.
        The same data and parameters give the same files, byte for byte. Custom properties:
        fingerprint, images, identities, quarantined, dropped, ignored, copies, contradictions, leaks,
        train_images, eval_images, train_identities, eval_identities, overruled (identities whose side an earlier
        span decided), withdrawn (files left out). `identities.json` beside the splits says who is in them.
      quarantine: `quarantine.jsonl`: every file set aside, with the reason. `ignored.jsonl`: what is no image, and
        systems' own folders, likewise. `repeated.jsonl`: files that are there more than once, of one identity
        (copies) or of several (contradictions).

    Cost: reading and decoding, all of it in Beam, grow with the pixels and spread over workers. The
    executor's own process lists the files: O(files) time, about 300 bytes of memory a file. A worker holds one
    image at a time and writes it to a spool below the examples, as large as the examples are, which is removed in
    the end; what Beam shuffles, by content, by identity and by shard, are rows of some 300 bytes that say where in
    the spool an image lies.
    """

    SPEC_CLASS = specs.declare(
        parameters={
            executor.SOURCE_KEY: str,
            executor.SPAN_KEY: int,
            executor.FINGERPRINT_KEY: str,
            executor.LAYOUT_KEY: str,
            executor.CAMERA_PATTERN_KEY: str,
            executor.EVAL_FRACTION_KEY: float,
            executor.QUERY_FRACTION_KEY: float,
            executor.SEED_KEY: int,
            executor.MAX_PIXELS_KEY: int,
            executor.CONTRADICTIONS_KEY: str,
            executor.MAX_QUARANTINE_FRACTION_KEY: float,
            executor.REGISTRY_KEY: str,
            executor.MODEL_NAME_KEY: str,
            executor.PINNED_SIDES_KEY: str,
        },
        outputs={executor.EXAMPLES_KEY: standard_artifacts.Examples, executor.QUARANTINE_KEY: artifacts.Quarantine},
    )
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(executor.Executor)

    def __init__(
        self,
        source: str,
        span: int,
        fingerprint: str,
        layout: str,
        camera_pattern: str,
        eval_fraction: float,
        query_fraction: float,
        seed: int,
        max_pixels: int,
        contradictions: str,
        max_quarantine_fraction: float,
        registry: str = "",
        model_name: str = "",
        pinned_sides: str = division.AUTO,
    ):
        """Wires an ingestion; nothing is read before it runs.

        Args:
          source: what `sources.open_source` opens: a folder, a .zip or `glyphs:...`; `{SPAN}`
            in it stands for `span`.
          span: number of this span of the data.
          fingerprint: `sources.fingerprint` of the source, so that a cached run sees that files
            have changed; "" leaves it to the executor to take, and the cache to trust the
            source's name.
          layout: how paths tell identities: one of `layouts.LAYOUTS`.
          camera_pattern: regular expression with one group of digits, searched in file names;
            "" for none.
          eval_fraction: share of identities held out, in (0, 1). Layouts that state a split go
            by that.
          query_fraction: share of a held-out identity's images that are queries, in (0, 1).
          seed: another seed, another division.
          max_pixels: larger images (height times width) are set aside.
          contradictions: `keep` lists files that two identities share, `set_aside` leaves them out too.
          max_quarantine_fraction: more bad files than this share stop the run.
          registry: folder of accepted spans, whose identities keep their sides, and of who is withdrawn; "" for none.
          model_name: stands where `{MODEL}` is in `registry`.
          pinned_sides: of the cache alone: what `division.divide` says that the registry changes. With 'auto' switch
            the cache off.
        """
        spec = self.SPEC_CLASS(
            source=source,
            span=span,
            fingerprint=fingerprint,
            layout=layout,
            camera_pattern=camera_pattern,
            eval_fraction=runtime.number(float, eval_fraction),
            query_fraction=runtime.number(float, query_fraction),
            seed=seed,
            max_pixels=max_pixels,
            contradictions=contradictions,
            max_quarantine_fraction=runtime.number(float, max_quarantine_fraction),
            registry=registry,
            model_name=model_name,
            pinned_sides=pinned_sides,
        )
        super().__init__(spec=spec)
