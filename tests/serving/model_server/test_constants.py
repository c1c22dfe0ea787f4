"""Variables that no signature assigns are constants, the answers are the same, and the others stay as they were."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from longtail.serving.model_server import constants
from longtail.serving.model_server import servable as servable_lib
from longtail.serving.model_server import tf_constants

ROWS = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
SPEC = [tf.TensorSpec([None, 6], tf.float32, name="x")]


def served(path, keep=False):
    return servable_lib.Servable("m", 1, str(path), servable_lib.SessionOptions(keep_variables=keep))


def constant(path):
    """The names of the variables that are constants when the model is served."""
    [meta_graph] = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes()).meta_graphs
    infos = [info for definition in meta_graph.signature_def.values() for info in definition.outputs.values()]
    fetched = {info.name.partition(":")[0] for info in infos}
    return set(constants.plan(memoryview(meta_graph.SerializeToString()), sorted(fetched)).variables)


def save(path, model, *names):
    tf.saved_model.save(model, str(path), signatures={name: getattr(model, name) for name in names})


class Nested(tf.Module):
    """A function that two others call, each with a variable of its own."""

    def __init__(self):
        super().__init__()
        self.first = tf.Variable(np.eye(6, dtype=np.float32) * 2.0, name="first")
        self.second = tf.Variable(np.ones([6, 3], np.float32), name="second")
        self.offset = tf.Variable(np.float16(0.5), name="offset")
        self.counts = tf.Variable(np.int64([3]), name="counts")
        self.text = tf.Variable("text", name="text")

    @tf.function
    def _inner(self, x):
        return tf.matmul(x, self.first) + tf.cast(self.offset, tf.float32)

    @tf.function
    def _outer(self, x):
        return tf.matmul(self._inner(x), self.second), tf.identity(self.counts)

    @tf.function(input_signature=SPEC)
    def ask(self, x):
        y, counts = self._outer(x)
        rows = tf.shape(x)[0]
        return {"y": y, "inner": self._inner(x), "counts": tf.repeat(counts, rows), "text": tf.fill([rows], self.text)}


class Branches(tf.Module):
    """Variables read within a branch, a loop and a map, where they go in as they are."""

    def __init__(self):
        super().__init__()
        self.scale = tf.Variable(3.0, name="scale")
        self.step = tf.Variable(0.25, name="step")
        self.plain = tf.Variable(tf.ones([6]), name="plain")
        self.alone = tf.Variable(5.0, name="alone")

    @tf.function(input_signature=SPEC)
    def ask(self, x):
        y = tf.cond(tf.reduce_sum(x) > 0.0, lambda: x * self.scale, lambda: x - self.scale)
        y = tf.while_loop(lambda at, _: at < 3, lambda at, y: (at + 1, y + self.step), [0, y])[1]
        return {"y": tf.map_fn(lambda row: row * self.plain, y) + self.plain * self.alone}


class Assigned(tf.Module):
    """A variable that one signature assigns and another reads, beside one that nobody assigns."""

    def __init__(self):
        super().__init__()
        self.seen = tf.Variable(0.0, name="seen")
        self.scale = tf.Variable(2.0, name="scale")
        self.table = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(tf.constant([0, 1], tf.int64), tf.constant([10.0, 20.0])), -1.0
        )

    @tf.function(input_signature=SPEC)
    def put(self, x):
        return {"seen": tf.fill([tf.shape(x)[0]], self.seen.assign_add(tf.reduce_sum(x)))}

    @tf.function(input_signature=SPEC)
    def ask(self, x):
        found = self.table.lookup(tf.cast(x[:, 0] > 0.0, tf.int64))
        return {"seen": tf.fill([tf.shape(x)[0]], self.seen + 0.0), "y": x * self.scale, "found": found * self.scale}


def keras_model():
    """Convolutions with batch normalisation, whose statistics are not those of a fresh one, and a recurrent layer."""
    tf.keras.utils.set_random_seed(0)
    image = tf.keras.Input([6])
    x = tf.keras.layers.Reshape([2, 3, 1])(image)
    x = tf.keras.layers.Conv2D(4, 2, padding="same", use_bias=False)(x)
    x = tf.keras.layers.BatchNormalization()(x)
    x = tf.keras.layers.DepthwiseConv2D(2, padding="same")(x)
    x = tf.keras.layers.Reshape([6, 4])(tf.keras.layers.ReLU(6.0)(x))
    x = tf.keras.layers.LSTM(5)(x)
    model = tf.keras.Model(image, {"y": tf.keras.layers.Dense(3)(x)})
    rng = np.random.default_rng(0)
    model.set_weights([np.abs(rng.normal(size=each.shape)).astype(each.dtype) + 0.1 for each in model.get_weights()])
    model.ask = tf.function(lambda x: model(x, training=False), input_signature=SPEC)
    return model


@pytest.mark.parametrize(
    ("make", "names"),
    [(Nested, {"first", "second", "offset", "counts"}), (Branches, {"alone"}), (Assigned, {"seen", "scale"})],
)
def test_answers_are_those_of_the_variables(tmp_path, make, names):
    save(tmp_path / "1", make(), "ask")
    assert constant(tmp_path / "1") == names
    same_answers(tmp_path / "1", "ask", ROWS)


def same_answers(path, signature, rows):
    """Whether a model says the same however its variables are kept."""
    variable, constant = served(path, keep=True), served(path)
    asked = {info.name.partition(":")[0] for info in constant.definitions[signature].outputs.values()}
    assert not variable._session.replaced and asked <= constant._session.replaced
    wanted, found = (servable.signature(signature).run({"x": rows}) for servable in (variable, constant))
    assert wanted.keys() == found.keys()
    for alias, array in wanted.items():
        assert found[alias].dtype == array.dtype
        if array.dtype == np.object_:
            assert found[alias].tolist() == array.tolist()
        else:
            np.testing.assert_allclose(found[alias], array, rtol=1e-5, atol=1e-6)


def test_answers_of_a_keras_model_are_those_of_its_variables(tmp_path):
    model = keras_model()
    save(tmp_path / "1", model, "ask")
    assert len(constant(tmp_path / "1")) >= 8  # those of the recurrent layer are read in a loop
    same_answers(tmp_path / "1", "ask", ROWS)
    np.testing.assert_allclose(
        served(tmp_path / "1").signature("ask").run({"x": ROWS})["y"], model(ROWS)["y"], rtol=1e-4, atol=1e-5
    )


def test_a_graph_without_functions_has_constants_too(tmp_path):
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        x = tf.compat.v1.placeholder(tf.float32, [None, 6], "x")
        scale = tf.compat.v1.get_variable("scale", [6], use_resource=True, initializer=tf.compat.v1.ones_initializer())
        kept = tf.compat.v1.get_variable("kept", [], use_resource=False, initializer=tf.compat.v1.ones_initializer())
        with tf.control_dependencies([tf.debugging.assert_less(x, 1e6)]):
            y = tf.identity(x * scale + kept, "y")
        session.run(tf.compat.v1.global_variables_initializer())
        tf.compat.v1.saved_model.simple_save(session, str(tmp_path / "1"), {"x": x}, {"y": y})
    assert constant(tmp_path / "1") == {"scale"}
    same_answers(tmp_path / "1", "serving_default", ROWS)


def test_what_is_done_on_the_way_is_done_once(tmp_path):
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        x = tf.compat.v1.placeholder(tf.float32, [None, 6], "x")
        scale = tf.compat.v1.get_variable("scale", [], use_resource=True, initializer=tf.compat.v1.ones_initializer())
        runs = tf.compat.v1.get_variable("runs", [], use_resource=True, initializer=tf.compat.v1.zeros_initializer())

        @tf.function
        def counted(x):
            runs.assign_add(1.0)
            return x * scale

        product = counted(x)
        with tf.control_dependencies([tf.group(product)]):
            y = tf.identity(product)
        with tf.control_dependencies([y]):
            found = tf.fill([tf.shape(x)[0]], runs.read_value())
        session.run(tf.compat.v1.global_variables_initializer())
        tf.compat.v1.saved_model.simple_save(session, str(tmp_path / "1"), {"x": x}, {"y": y, "runs": found})
    assert constant(tmp_path / "1") == {"scale"}
    signature = served(tmp_path / "1").signature("serving_default")
    assert [signature.run({"x": ROWS[:1]})["runs"].tolist() for _ in range(3)] == [[1.0], [2.0], [3.0]]


def test_of_two_handles_of_a_variable_one_that_is_assigned_keeps_it_variable(tmp_path):
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        x = tf.compat.v1.placeholder(tf.float32, [None, 6], "x")
        value = tf.compat.v1.get_variable("value", [], use_resource=True, initializer=tf.compat.v1.zeros_initializer())
        other = tf.raw_ops.VarHandleOp(dtype=tf.float32, shape=[], shared_name=value.op.get_attr("shared_name"))
        assigned = tf.raw_ops.AssignAddVariableOp(resource=other, value=tf.reduce_sum(x))
        with tf.control_dependencies([assigned]):
            put = tf.zeros([tf.shape(x)[0]])
        session.run(tf.compat.v1.global_variables_initializer())
        builder = tf.compat.v1.saved_model.Builder(str(tmp_path / "1"))
        define = tf.compat.v1.saved_model.predict_signature_def
        signatures = {"put": define({"x": x}, {"y": put}), "ask": define({"x": x}, {"y": x * value})}
        builder.add_meta_graph_and_variables(session, ["serve"], signatures)
        builder.save()
    assert constant(tmp_path / "1") == set()


def test_a_model_of_which_no_constants_can_be_made_serves_with_its_variables(tmp_path, monkeypatch, caplog):
    save(tmp_path / "1", Nested(), "ask")

    def refused(*_):
        raise tf.errors.InvalidArgumentError(None, None, "it is refused")

    monkeypatch.setattr(tf_constants, "_import", refused)
    servable = served(tmp_path / "1")
    assert servable.signature("ask").run({"x": ROWS})["counts"].tolist() == [3] * 4
    assert "is served with its variables" in caplog.text and "it is refused" in caplog.text


def test_large_variables_stay_variables(tmp_path, monkeypatch):
    monkeypatch.setattr(tf_constants, "_MOST_BYTES", 100)
    save(tmp_path / "1", Nested(), "ask")
    assert not served(tmp_path / "1")._session.replaced


def test_what_a_signature_assigns_stays_variable_for_those_who_read_it(tmp_path):
    save(tmp_path / "1", Assigned(), "ask", "put")
    assert constant(tmp_path / "1") == {"scale"}
    servable = served(tmp_path / "1")
    assert servable.signature("ask").run({"x": ROWS})["seen"].tolist() == [0.0] * 4
    for times in (1, 2):
        servable.signature("put").run({"x": ROWS})
        np.testing.assert_allclose(servable.signature("ask").run({"x": ROWS})["seen"], times * ROWS.sum(), rtol=1e-5)
