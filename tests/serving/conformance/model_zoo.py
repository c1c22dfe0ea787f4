"""Models of plain TensorFlow and Keras, none of this project, for the suite to ask about.

    python -m tests.serving.conformance.model_zoo DIR

writes them below DIR, with a models.config that finds them in /models, where deploy/tf_serving/compose.yaml puts DIR.
"""

import os
import pathlib
import sys

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

MOUNTED = "/models"  # where a container sees them

CONFIG = f"""\
model_config_list {{
  config {{
    name: "half_plus_two"
    base_path: "{MOUNTED}/half_plus_two"
    model_platform: "tensorflow"
  }}
  config {{
    name: "affine"
    base_path: "{MOUNTED}/affine"
    model_platform: "tensorflow"
    model_version_policy {{ specific {{ versions: 1 versions: 2 }} }}
    version_labels {{ key: "stable" value: 1 }}
    version_labels {{ key: "canary" value: 2 }}
  }}
  config {{
    name: "mixed"
    base_path: "{MOUNTED}/mixed"
    model_platform: "tensorflow"
    model_version_policy {{ all {{}} }}
  }}
  config {{
    name: "odd"
    base_path: "{MOUNTED}/odd"
    model_platform: "tensorflow"
  }}
  config {{
    name: "mobilenet"
    base_path: "{MOUNTED}/mobilenet"
    model_platform: "tensorflow"
  }}
}}
"""


def _signature(method: str, inputs: dict[str, tf.Tensor], outputs: dict[str, tf.Tensor]):
    def infos(tensors):
        return {alias: tf.compat.v1.saved_model.build_tensor_info(tensor) for alias, tensor in tensors.items()}

    return tf.compat.v1.saved_model.build_signature_def(infos(inputs), infos(outputs), method)


def half_plus_two(path: str) -> None:
    """x / 2 + 2, saved as TensorFlow 1 does: a graph, a session, and a signature of each of TF Serving's methods."""
    v1 = tf.compat.v1
    with v1.Session(graph=tf.Graph()) as session:
        examples = v1.placeholder(tf.string, [None], "examples")
        parsed = v1.parse_example(examples, {"x": tf.io.FixedLenFeature([1], tf.float32)})["x"]
        half = v1.get_variable("half", initializer=0.5, use_resource=False)
        two = v1.get_variable("two", initializer=2.0, use_resource=False)
        x = v1.placeholder(tf.float32, [None], "x")
        from_examples = parsed * half + two
        session.run(v1.global_variables_initializer())
        signatures = {
            "serving_default": _signature(tf.saved_model.PREDICT_METHOD_NAME, {"x": x}, {"y": x * half + two}),
            "regress_x_to_y": _signature(
                tf.saved_model.REGRESS_METHOD_NAME, {"inputs": examples}, {"outputs": from_examples}
            ),
            "classify_x_to_y": _signature(
                tf.saved_model.CLASSIFY_METHOD_NAME, {"inputs": examples}, {"scores": from_examples}
            ),
        }
        builder = v1.saved_model.Builder(path)
        builder.add_meta_graph_and_variables(session, [tf.saved_model.SERVING], signatures)
        builder.save()


_TEN = tf.constant([10], tf.int64)


class Affine(tf.Module):
    """a x + b."""

    def __init__(self, a: float, b: float):
        super().__init__()
        self.a, self.b = tf.Variable(a), tf.Variable(b)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def __call__(self, x):
        return {"y": self.a * x + self.b}


class Mixed(tf.Module):
    """Several inputs of several types."""

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, 2], tf.float32, name="point"),
            tf.TensorSpec([None], tf.int64, name="count"),
            tf.TensorSpec([None], tf.string, name="text"),
        ]
    )
    def __call__(self, point, count, text):
        return {
            "sum": tf.reduce_sum(point, 1) + tf.cast(count, tf.float32),
            "more": count + 1,
            "echo_bytes": tf.strings.join([text, b"\xff"]),
        }

    @tf.function(
        input_signature=[tf.TensorSpec([None], tf.int64, name="count"), tf.TensorSpec([None], tf.int64, name="by")]
    )
    def step(self, count, by=_TEN):
        """With an input that need not be sent."""
        return {"more": count + by}


class Odd(tf.Module):
    """Types that are rare, and a signature that states another than its graph has."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def half(self, x):
        return {"half": tf.cast(x, tf.float16), "bfloat16": tf.cast(x, tf.bfloat16)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def liar(self, x):
        return {"y": x + 1.0}


def odd(path: str) -> None:
    """Saves `Odd`, whose signature "liar" says that it takes int32."""
    model = Odd()
    tf.saved_model.save(model, path, signatures={"half": model.half, "liar": model.liar})
    file = pathlib.Path(path, "saved_model.pb")
    saved = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    saved.meta_graphs[0].signature_def["liar"].inputs["x"].dtype = tf.int32.as_datatype_enum
    file.write_bytes(saved.SerializeToString())


def mobilenet() -> tf.keras.Model:
    """A Keras application, the same whenever it is made."""
    model = tf.keras.applications.MobileNetV2((32, 32, 3), alpha=0.35, weights=None, classes=10)
    random = np.random.default_rng(0)
    model.set_weights([abs(random.normal(0.1, 0.1, weight.shape)) for weight in model.get_weights()])
    return model


def write(folder: str) -> None:
    """Writes every model and the config below `folder`."""
    at = pathlib.Path(folder)
    at.mkdir(parents=True, exist_ok=True)
    half_plus_two(str(at / "half_plus_two" / "00000123"))
    for version, b in ((1, 2.0), (2, 3.0)):
        affine = Affine(0.5, b)
        tf.saved_model.save(affine, str(at / "affine" / str(version)), signatures=affine.__call__)
    mixed = Mixed()
    signatures = {"serving_default": mixed.__call__, "step": mixed.step}
    tf.saved_model.save(mixed, str(at / "mixed" / "1"), signatures=signatures)
    odd(str(at / "odd" / "1"))
    mobilenet().export(str(at / "mobilenet" / "1"))
    (at / "models.config").write_text(CONFIG)


if __name__ == "__main__":
    write(os.path.abspath(sys.argv[1]))
