"""Functions for `data.preprocess`: one that helps, and some that must be refused."""

import tensorflow as tf


def brighter(features):
    """The same record, its first pixel twice as bright."""
    return {**features, "pixel20": features["pixel20"] * 2}


def random(features):
    """A draw that no resumed run could repeat."""
    return {**features, "pixel20": tf.random.uniform([], 0, 9, tf.int64)}


def wrong(features):
    """Asks for what there is not."""
    return {"pixel20": features["pixel2000"]}


def refuses(features):
    """Raises when it meets a record, not when it is traced."""
    with tf.control_dependencies(
        [tf.debugging.assert_less(features["pixel20"], tf.constant(0, tf.int64))]
    ):
        return {**features, "pixel20": tf.identity(features["pixel20"])}
