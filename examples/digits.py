"""Teaches a small network to read handwritten digits, with nothing but a tape in a compiled step.

The 1,797 images of 8x8 pixels come with scikit-learn; a fifth of them is held out for the test. Run it with
`python examples/digits.py`; it takes a few seconds, and leaves `digits.png` in the current directory.
"""

import argparse
import itertools
import time
from pathlib import Path
from typing import NamedTuple

import matplotlib.figure
import numpy as np
import sklearn.datasets
from tqdm import tqdm

import gradtape as gt

BATCH = 32
DROPOUT = 0.3


class Digits(NamedTuple):
    """Images, a row of 64 grey values in [0, 1] each, and which digit each one shows."""

    images: np.ndarray
    labels: np.ndarray

    def __len__(self):
        return len(self.labels)

    def take(self, indices):
        return Digits(self.images[indices], self.labels[indices])


class Dense(gt.Module):
    """x @ weight + bias."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.weight = gt.Variable(
            gt.random.normal([inputs, outputs], stddev=(2 / inputs) ** 0.5), name="weight"
        )
        self.bias = gt.Variable(gt.zeros([outputs]), name="bias")

    def __call__(self, x):
        return x @ self.weight + self.bias


class Network(gt.Module):
    """Dense layers with relu and dropout between them; the last gives a logit for each class."""

    def __init__(self, sizes):
        super().__init__()
        self.layers = [Dense(inputs, outputs) for inputs, outputs in itertools.pairwise(sizes)]

    def __call__(self, x, dropout=0.0):
        *hidden, last = self.layers
        for layer in hidden:
            x = gt.nn.dropout(gt.nn.relu(layer(x)), dropout)
        return last(x)


def load(seed):
    """The digits to train on, and the fifth held out."""
    bunch = sklearn.datasets.load_digits()
    digits = Digits((bunch.data / 16).astype("float32"), bunch.target)
    order = np.random.default_rng(seed).permutation(len(digits))
    held_out = len(digits) // 5
    return digits.take(order[held_out:]), digits.take(order[:held_out])


def batches(digits, rng):
    """All digits once, in random order, some at a time."""
    order = rng.permutation(len(digits))
    for start in range(0, len(order), BATCH):
        yield digits.take(order[start : start + BATCH])


def loss_of(network, digits, dropout=0.0):
    logits = network(digits.images, dropout)
    return gt.reduce_mean(gt.nn.sparse_softmax_cross_entropy_with_logits(digits.labels, logits))


def step_of(network, optimizer):
    """What learns from one batch: a plain Python function, which returns the loss."""
    variables = network.trainable_variables

    def step(images, labels):
        with gt.GradientTape() as tape:
            loss = loss_of(network, Digits(images, labels), DROPOUT)
        gradients = tape.gradient(loss, variables)
        optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return loss

    return step


def train(step, digits, epochs, seed):
    """Trains, and returns the loss of every step."""
    rng = np.random.default_rng(seed)
    history = []
    with tqdm(range(epochs), desc="training", unit="epoch") as progress:
        for _ in progress:
            history += [float(step(batch.images, batch.labels)) for batch in batches(digits, rng)]
            progress.set_postfix(loss=f"{history[-1]:.4f}", refresh=False)
    return history


def milliseconds(step, batch, repeats=200):
    """The median time of a step."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        step(batch.images, batch.labels)
        times.append(time.perf_counter() - start)
    return 1000 * float(np.median(times))


def predictions(network, digits):
    return gt.argmax(network(digits.images), axis=1).numpy()


def made(options):
    """A network and its optimizer."""
    gt.random.set_seed(options.seed)
    network = Network([64, 128, 64, 10])
    if options.optimizer == "adam":
        return network, gt.optimizers.Adam(learning_rate=0.001)
    return network, gt.optimizers.SGD(learning_rate=0.05, momentum=0.9)


def report(rows):
    """Prints names and values, one to a line, in two columns."""
    width = max(len(name) for name, _ in rows)
    print("\n".join(f"{name:<{width}}  {value:>9}" for name, value in rows))


def twelve(said, labels):
    """Test digits to look at: up to six wrong ones, then right ones, of all kinds as far as there is room."""
    wrong, right = np.flatnonzero(said != labels), np.flatnonzero(said == labels)
    first_of_kind = right[np.unique(labels[right], return_index=True)[1]]
    chosen = np.concatenate([wrong[:6], first_of_kind, np.setdiff1d(right, first_of_kind), wrong[6:]])
    return chosen[:12]


def draw(path, history, epochs, test, said):
    """One picture: how the loss fell, and what the network says of twelve digits it has never seen."""
    figure = matplotlib.figure.Figure(figsize=(11, 5), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=[1, 1.15], wspace=0.04)

    steps_per_epoch = len(history) // epochs
    of_epochs = np.reshape(history, (epochs, steps_per_epoch)).mean(axis=1)
    left.suptitle("The loss while training", fontsize=13)
    axes = left.add_subplot()
    axes.plot(np.arange(1, len(history) + 1), history, color="#b8c4d6", linewidth=0.7, label="each step")
    middles = (np.arange(epochs) + 0.5) * steps_per_epoch
    axes.plot(middles, of_epochs, color="#1f4e8c", linewidth=2, marker=".", label="mean of each epoch")
    axes.set(xlabel="step", ylabel="cross-entropy, with dropout", yscale="log", xlim=(0, len(history)))
    axes.set_ylim(bottom=max(of_epochs.min() / 10, 1e-8))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)

    errors = int(np.sum(said != test.labels))
    right.suptitle(f"Unseen digits: {len(test) - errors} of {len(test)} read correctly", fontsize=13)
    for axes, i in zip(right.subplots(3, 4).flat, twelve(said, test.labels), strict=True):
        wrong = said[i] != test.labels[i]
        axes.imshow(test.images[i].reshape(8, 8), cmap="gray_r", vmin=0, vmax=1)
        axes.set(xticks=[], yticks=[])
        axes.set_title(
            f"says {said[i]}, is {test.labels[i]}" if wrong else f"says {said[i]}",
            color="#c0272d" if wrong else "black",
            fontweight="bold" if wrong else "normal",
            fontsize=11,
        )
        for spine in axes.spines.values():
            spine.set(color="#c0272d" if wrong else "#c8c8c8", linewidth=3 if wrong else 1)
    figure.savefig(path, dpi=110)


def main():
    parser = argparse.ArgumentParser(
        description="Train a network on handwritten digits, with a gradient tape."
    )
    parser.add_argument(
        "--epochs", type=int, default=40, help="how often to see each image (default %(default)s)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of the split, the weights, the order (default 0)"
    )
    parser.add_argument("--picture", type=Path, default=Path("digits.png"), help="where to write the picture")
    parser.add_argument("--optimizer", choices=["adam", "sgd"], default="adam")
    options = parser.parse_args()
    if options.epochs < 1:
        parser.error("--epochs must be at least 1")

    training, test = load(options.seed)
    network, optimizer = made(options)
    print(
        f"{len(training)} to learn from, {len(test)} held out, {options.epochs} epochs of {options.optimizer}"
    )

    start = time.perf_counter()
    step = gt.function(step_of(network, optimizer))  # compiled at its first call
    history = train(step, training, options.epochs, options.seed)
    seconds = time.perf_counter() - start

    one_batch = training.take(np.arange(BATCH))
    eager, compiled = step_of(*made(options)), gt.function(step_of(*made(options)))
    said = predictions(network, test)
    report(
        [
            ("epochs", options.epochs),
            ("steps", len(history)),
            ("training loss", f"{float(loss_of(network, training)):.5f}"),
            ("training accuracy", f"{np.mean(predictions(network, training) == training.labels):.2%}"),
            ("test accuracy", f"{np.mean(said == test.labels):.2%}"),
            ("seconds", f"{seconds:.2f}"),
            ("ms per step, in Python", f"{milliseconds(eager, one_batch):.3f}"),
            ("ms per step, compiled", f"{milliseconds(compiled, one_batch):.3f}"),
        ]
    )
    draw(options.picture, history, options.epochs, test, said)
    print(f"picture: {options.picture}")


if __name__ == "__main__":
    main()
