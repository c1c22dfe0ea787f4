"""SavedModels of a few ops, each made to show one thing."""

import os

import tensorflow as tf


class _Rows(tf.Module):
    """Doubles numbers, joins strings; tells how many rows it was given at once and in all; fails where told."""

    def __init__(self):
        super().__init__()
        self.seen = tf.Variable(0)

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.float32, name="x")])
    def double(self, x):
        with tf.control_dependencies([tf.debugging.assert_none_equal(x, -1.0, message="minus one was asked")]):
            rows = tf.shape(x)[0]
            seen = self.seen.assign_add(rows)
            return {"y": x * 2.0, "at_once": tf.fill([rows], rows), "in_all": tf.fill([rows], seen)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def total(self, x):
        return {"total": tf.reduce_sum(x)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def distinct(self, x):
        """Its outputs have other rows than its inputs, which the shapes do not say."""
        return {"distinct": tf.unique(x).y}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def deep(self, x):
        return {"deep": tf.reshape(x, [-1] + [1] * 39)}

    @tf.function(
        input_signature=[tf.TensorSpec([None], tf.string, name="a"), tf.TensorSpec([None], tf.string, name="b")]
    )
    def join(self, a, b):
        return {"joined": tf.strings.join([a, b])}

    @tf.function(
        input_signature=[tf.TensorSpec([None], tf.float32, name="x"), tf.TensorSpec([None], tf.float32, name="y")]
    )
    def outer(self, x, y):
        return {"outer": x[:, tf.newaxis] * y[tf.newaxis, :]}


def write(path: os.PathLike) -> str:
    """Saves the model at `path`; returns it."""
    model = _Rows()
    names = ("double", "total", "distinct", "deep", "join", "outer")
    tf.saved_model.save(model, str(path), signatures={name: getattr(model, name) for name in names})
    return str(path)


def write_of_dtypes(path: os.PathLike, dtypes: list[tf.DType]) -> str:
    """Saves a model whose signature `float32` gives back what it takes, and so on for each type."""
    model = tf.Module()
    model.functions = {
        dtype.name: tf.function(lambda x: {"x": tf.identity(x)}, input_signature=[tf.TensorSpec(None, dtype, name="x")])
        for dtype in dtypes
    }
    tf.saved_model.save(model, str(path), signatures=dict(model.functions))
    return str(path)


class _Keeper(tf.Module):
    """Gives back what it was asked before."""

    def __init__(self):
        super().__init__()
        self.last = tf.Variable([""], shape=[None])

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    def __call__(self, text):
        before = self.last.read_value()
        with tf.control_dependencies([before]):
            self.last.assign(text)
        return {"before": before}


def write_keeper(path: os.PathLike) -> str:
    """Saves the model that keeps a string at `path`; returns it."""
    model = _Keeper()
    tf.saved_model.save(model, str(path), signatures=model.__call__)
    return str(path)
