"""A small classifier: the labeller of generated data, features that know classes, and what a kept set is worth."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Key

from jaxcollapse.base import Measure
from jaxcollapse.checks import check_range
from jaxcollapse.measures import as_moments, inverse_cdf
from jaxcollapse.tree import closure, static


@closure
class Classifier:
    """Weights of a network with two hidden layers; a column of ones makes their last rows offsets.

    Images may pass through convolutions before.

    Attributes:
        mean: of the training data, shape [d].
        scale: root of their mean variance, shape [].
        first: shape [d + 1, width].
        second: shape [width + 1, f].
        last: shape [f + 1, c].
        filters: kernels of convolutions, [3, 3, channels, channels], each with its offsets, [channels].
        shape: height, width and channels of an image, where there are filters.
    """

    mean: Float[Array, "*stack d"]
    scale: Float[Array, "*stack"]
    first: Float[Array, "*stack d1 width"]
    second: Float[Array, "*stack width1 f"]
    last: Float[Array, "*stack f1 c"]
    filters: tuple[tuple[Float[Array, "*stack 3 3 i o"], Float[Array, "*stack o"]], ...] = ()
    shape: tuple[int, int, int] | None = static(default=None)


def penultimate(classifier: Classifier, points: Float[Array, "n d"]) -> Float[Array, "n f"]:
    r"""Compute the features :math:`h_2 = \max(0, W_2 h_1 + b_2)`, :math:`h_1 = \max(0, W_1 h_0 + b_1)`.

    Here :math:`h_0 = (x - \mu) / s`, or what convolutions of stride two make of it, each followed by max(0, .).
    """
    hidden = (points - classifier.mean) / classifier.scale
    if classifier.shape is not None:
        images = hidden.reshape(-1, *classifier.shape)
        for kernel, offset in classifier.filters:
            images = jax.nn.relu(_convolve(images, kernel) + offset)
        hidden = images.reshape(len(hidden), -1)
    for weights in (classifier.first, classifier.second):
        hidden = jax.nn.relu(_affine(weights, hidden))
    return hidden


def log_probabilities(classifier: Classifier, points: Float[Array, "n d"]) -> Float[Array, "n c"]:
    r"""Compute :math:`\log p(c \mid x)`, a softmax of :math:`W_3 h_2 + b_3`."""
    return jax.nn.log_softmax(_affine(classifier.last, penultimate(classifier, points)))


def classify(classifier: Classifier, points: Float[Array, "n d"]) -> Int[Array, " n"]:
    """Name the class of highest probability."""
    return jnp.argmax(log_probabilities(classifier, points), axis=-1)


def risk(classifier: Classifier, data: Measure, labels: Float[Array, "n c"]) -> Float[Array, ""]:
    r"""Compute the cross-entropy :math:`-\sum_i a_i \sum_c y_{ic} \log p(c \mid x_i)` in nats, a the shares of mass."""
    losses = -jnp.sum(labels * log_probabilities(classifier, data.points), axis=-1)
    return data.weights @ losses / data.weights.sum()


def accuracy(classifier: Classifier, data: Measure, labels: Float[Array, "n c"]) -> Float[Array, ""]:
    """Compute the share of the mass whose most probable class is its label's."""
    right = classify(classifier, data.points) == jnp.argmax(labels, axis=-1)
    return data.weights @ right / data.weights.sum()


@partial(jax.jit, static_argnames=("num_steps", "batch_size", "width", "num_features", "shape", "channels"))
def fit_classifier(
    key: Key[Array, ""],
    data: Measure,
    labels: Float[Array, "n c"],
    num_steps: int = 1000,
    batch_size: int = 128,
    width: int = 128,
    num_features: int = 64,
    learning_rate: Float[Array | float, ""] = 3e-3,
    decay: Float[Array | float, ""] = 1e-2,
    *,
    shape: tuple[int, int, int] | None = None,
    channels: tuple[int, ...] = (32, 64),
) -> Classifier:
    r"""Fit a classifier to weighted points by minimising `risk` with Adam and decoupled weight decay [loshchilov2019]_.

    Minibatches are drawn in proportion to mass, and the rate falls to zero along a cosine. Data without mass, or all in
    one place, leave the weights near those drawn at the start, and finite.

    Args:
        key: of the first weights and the minibatches.
        data: points and masses, [n, d].
        labels: y, probabilities of c classes; one and zeros where the class is known.
        num_steps: of Adam.
        batch_size: points of a step.
        width: of the first hidden layer.
        num_features: f, of the second.
        learning_rate: at the start.
        decay: of the weights, relative to the rate.
        shape: height, width and channels of an image, if convolutions come first.
        channels: of each of them, of stride two.
    """
    check_range("num_steps", num_steps, low=1)
    check_range("batch_size", batch_size, low=1)
    dim, dtype = data.points.shape[-1], data.points.dtype
    _, mean, covariance = as_moments(data)
    scale = jnp.sqrt(jnp.trace(covariance) / dim)
    start_key, key = jax.random.split(key)
    filters, flat = (), dim
    if shape is not None:
        height, breadth, depth = shape
        for i, wider in enumerate(channels):
            kernel = jax.random.normal(jax.random.fold_in(start_key, i), (3, 3, depth, wider), dtype)
            filters += ((kernel * np.sqrt(2 / (9 * depth)), jnp.zeros(wider, dtype)),)
            height, breadth, depth = -(-height // 2), -(-breadth // 2), wider
        flat = height * breadth * depth
    shapes = [(flat + 1, width), (width + 1, num_features), (num_features + 1, labels.shape[-1])]
    dense = [
        jax.random.normal(k, of_layer, dtype).at[-1].set(0) * np.sqrt(2 / (of_layer[0] - 1))
        for k, of_layer in zip(jax.random.split(start_key, 3), shapes, strict=True)
    ]
    layers = dict(zip(("first", "second", "last"), dense, strict=True)) | {"filters": filters}
    start = Classifier(mean, jnp.where(scale > 0, scale, 1), **layers, shape=shape)
    optimiser = optax.adamw(optax.cosine_decay_schedule(learning_rate, num_steps), weight_decay=decay)
    index_at = inverse_cdf(data.weights)

    def step(state, key):
        layers, adam = state
        index = index_at(jax.random.uniform(key, (batch_size,), dtype))
        batch = Measure(data.points[index], jnp.ones(batch_size, dtype))
        gradient = jax.grad(lambda layers: risk(dataclasses.replace(start, **layers), batch, labels[index]))(layers)
        update, adam = optimiser.update(gradient, adam, layers)
        return (jax.tree.map(jnp.add, layers, update), adam), None

    (layers, _), _ = jax.lax.scan(step, (layers, optimiser.init(layers)), jax.random.split(key, num_steps))
    return dataclasses.replace(start, **layers)


def _convolve(images: Float[Array, "n h w i"], kernel: Float[Array, "3 3 i o"]) -> Float[Array, "n h2 w2 o"]:
    """Convolve with stride two, as a product with patches: on processors far faster than the compiler's own."""
    height, width = images.shape[1:3]
    padded = jnp.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    patches = [padded[:, i : i + height : 2, j : j + width : 2] for i in range(3) for j in range(3)]
    return jnp.concatenate(patches, axis=-1) @ kernel.reshape(-1, kernel.shape[-1])


def _affine(weights: Float[Array, "d1 f"], x: Float[Array, "n d"]) -> Float[Array, "n f"]:
    return x @ weights[:-1] + weights[-1]
