"""What speed.py times: functions against a library's namespace, and a derivative of each by hand in NumPy."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

STEPS = 100
BATCH = 128
EXAMPLES = 64
INTEREST = 0.03
ROOT_HALF = 0.5**0.5
US_PER_OP = 1e6 / (3 * STEPS)

Array = np.ndarray
Arrays = list[np.ndarray]
Data = tuple[Arrays, Arrays, Arrays]


class Workload(NamedTuple):
    """What to differentiate, how, the answer by hand, and the targets.

    data: three lists of arrays. The sources: derivatives are by them. The constants: held fixed. And what the
    derivative is taken along: the sources' directions for "jvp" and "hvp", examples for "per_example".
    function: of a library's namespace, the sources, the constants and, for "per_example", one example.
    by_hand: of all the arrays; what a user would write who needs just this derivative.
    derivative: the name that it has in libraries.py; "value" is the function itself, nobody recording.
    targets: the most that gradtape's time may be, over that of "best peer", of "autograd", over its own of
    another workload, or over the unit that it is shown in. compiled: the same of the compiled derivative.
    """

    data: Callable[[np.random.Generator], Data]
    function: Callable[..., Any]
    by_hand: Callable[..., Arrays]
    derivative: str = "gradient"
    targets: Mapping[str, float] = {}
    compiled: Mapping[str, float] = {}
    unit: str = "ms"
    scale: float = 1e3


# -- a chain of small ops: its gradient, its value, and its value with a tangent -----------------------------


def chain_data(rng: np.random.Generator) -> Data:
    """Small, since larger ones come to the chain's limit in 100 steps: pi, where every gradient is 0."""
    return [np.array([0.01, 0.02, 0.03, 0.04], np.float32)], [], []


def chain_and_tangent(rng: np.random.Generator) -> Data:
    return chain_data(rng)[0], [], [np.array([1.0, -2.0, 0.5, 3.0], np.float32)]


def steps(m: Any, x: Any) -> Any:
    y = x
    for _ in range(STEPS):
        y = m.sin(y) * x + y
    return y


def chain(m: Any, x: Any) -> Any:
    return m.sum(steps(m, x))


def chain_by_hand(x: Array) -> Arrays:
    y, done = x, []
    for _ in range(STEPS):
        s = np.sin(y)
        done.append((y, s))
        y = s * x + y
    dy, dx = np.ones_like(x), np.zeros_like(x)
    for y, s in reversed(done):
        dx = dx + dy * s
        dy = dy + dy * x * np.cos(y)
    return [dx + dy]


def steps_by_hand(x: Array) -> Arrays:
    return [steps(np, x)]


def steps_jvp_by_hand(x: Array, dx: Array) -> Arrays:
    y, dy = x, dx
    for _ in range(STEPS):
        s = np.sin(y)
        dy = np.cos(y) * dy * x + s * dx + dy
        y = s * x + y
    return [dy]


# -- a classifier: the gradient of a batch, and one gradient for each example --------------------------------


def classified(rng: np.random.Generator, batch: int) -> Arrays:
    """Images, and their labels as one-hot rows."""
    images = rng.standard_normal((batch, 784))
    labels = np.eye(10)[rng.integers(0, 10, batch)]
    return [images.astype(np.float32), labels.astype(np.float32)]


def mlp_data(rng: np.random.Generator) -> Data:
    examples = classified(rng, BATCH)
    weights = [0.05 * rng.standard_normal(shape) for shape in ((784, 256), 256, (256, 10), 10)]
    return [array.astype(np.float32) for array in weights], examples, []


def mlp(m: Any, w1: Any, b1: Any, w2: Any, b2: Any, images: Any, labels: Any) -> Any:
    hidden = m.relu(m.matmul(images, w1) + b1)
    return m.sum(labels * m.log_softmax(m.matmul(hidden, w2) + b2)) * (-1.0 / BATCH)


def mlp_by_hand(w1: Array, b1: Array, w2: Array, b2: Array, images: Array, labels: Array) -> Arrays:
    hidden = np.maximum(images @ w1 + b1, 0)
    d_logits = (softmax(hidden @ w2 + b2) - labels) / BATCH
    d_hidden = (d_logits @ w2.T) * (hidden > 0)
    return [images.T @ d_hidden, d_hidden.sum(axis=0), hidden.T @ d_logits, d_logits.sum(axis=0)]


def softmax(logits: Array) -> Array:
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)


def per_example_data(rng: np.random.Generator) -> Data:
    examples = classified(rng, EXAMPLES)
    weights = [0.05 * rng.standard_normal(shape) for shape in ((64, 784), 64, (10, 64), 10)]
    return [array.astype(np.float32) for array in weights], [], examples


def per_example(m: Any, w1: Any, b1: Any, w2: Any, b2: Any, image: Any, label: Any) -> Any:
    hidden = m.relu(m.matvec(w1, image) + b1)
    return -m.sum(label * m.log_softmax(m.matvec(w2, hidden) + b2))


def per_example_by_hand(w1: Array, b1: Array, w2: Array, b2: Array, images: Array, labels: Array) -> Arrays:
    hidden = np.maximum(images @ w1.T + b1, 0)
    d_logits = softmax(hidden @ w2.T + b2) - labels
    d_hidden = (d_logits @ w2) * (hidden > 0)
    by_w1 = d_hidden[:, :, None] * images[:, None, :]
    return [by_w1, d_hidden, d_logits[:, :, None] * hidden[:, None, :], d_logits]


# -- Rosenbrock's function: its gradient, and its Hessian times a vector -------------------------------------


def rosenbrock_data(rng: np.random.Generator) -> Data:
    return [rng.standard_normal(1_000_000)], [], []


def rosenbrock_and_direction(rng: np.random.Generator) -> Data:
    return [rng.standard_normal(100_000)], [], [rng.standard_normal(100_000)]


def rosenbrock(m: Any, x: Any) -> Any:
    a, b = x[:-1], x[1:]
    valley, slope = b - a * a, 1.0 - a
    return m.sum(100.0 * (valley * valley) + slope * slope)


def rosenbrock_by_hand(x: Array) -> Arrays:
    a = x[:-1]
    pull = 200.0 * (x[1:] - a * a)
    gradient = np.zeros_like(x)
    gradient[1:] = pull
    gradient[:-1] -= 2.0 * (pull * a + (1.0 - a))
    return [gradient]


def rosenbrock_hvp_by_hand(x: Array, v: Array) -> Arrays:
    a, da = x[:-1], v[:-1]
    pull = 200.0 * (x[1:] - a * a)
    d_pull = 200.0 * (v[1:] - 2.0 * (a * da))
    product = np.zeros_like(x)
    product[1:] = d_pull
    product[:-1] -= 2.0 * (d_pull * a + pull * da - da)
    return [product]


# -- two layers, y = tanh(A tanh(A x)): the Jacobian of y; of sum(y) the Hessian, and that times a vector ----


def layers_data(rng: np.random.Generator, n: int = 300) -> Data:
    return [rng.standard_normal(n)], [rng.standard_normal((n, n)) / n**0.5], []


def layers_and_direction(rng: np.random.Generator) -> Data:
    sources, constants, _ = layers_data(rng, 1000)
    return sources, constants, [rng.standard_normal(1000)]


def layers(m: Any, x: Any, A: Any) -> Any:
    return m.tanh(m.matvec(A, m.tanh(m.matvec(A, x))))


def layers_sum(m: Any, x: Any, A: Any) -> Any:
    return m.sum(layers(m, x, A))


def jacobian_by_hand(x: Array, A: Array) -> Arrays:
    u = np.tanh(A @ x)
    y = np.tanh(A @ u)
    return [((1 - y * y)[:, None] * A) @ ((1 - u * u)[:, None] * A)]


def hessian_by_hand(x: Array, A: Array) -> Arrays:
    """With z = A u and D for diagonal matrices: z' D(tanh''(z)) z' + A' D(tanh''(A x) * (A' tanh'(z))) A."""
    u = np.tanh(A @ x)
    y = np.tanh(A @ u)
    slope_u, slope_y = 1 - u * u, 1 - y * y
    by_x = A @ (slope_u[:, None] * A)
    inner = -2 * u * slope_u * (slope_y @ A)
    return [by_x.T @ ((-2 * y * slope_y)[:, None] * by_x) + A.T @ (inner[:, None] * A)]


def hvp_by_hand(x: Array, A: Array, v: Array) -> Arrays:
    u = np.tanh(A @ x)
    y = np.tanh(A @ u)
    slope_u, slope_y = 1 - u * u, 1 - y * y
    du = slope_u * (A @ v)
    d_slope_y = -2 * y * slope_y * (A @ du)
    return [(d_slope_y @ A * slope_u - 2 * u * du * (slope_y @ A)) @ A]


# -- statistics and finance: gradients -----------------------------------------------------------------------


def logistic_data(rng: np.random.Generator) -> Data:
    features = rng.standard_normal((100_000, 50))
    labels = rng.integers(0, 2, 100_000).astype(np.float64)
    return [0.1 * rng.standard_normal(50)], [features, labels], []


def logistic(m: Any, w: Any, features: Any, labels: Any) -> Any:
    z = m.matvec(features, w)
    return m.mean(m.softplus(z) - labels * z)


def logistic_by_hand(w: Array, features: Array, labels: Array) -> Arrays:
    probability = 1.0 / (1.0 + np.exp(-(features @ w)))
    return [(probability - labels) @ features / len(labels)]


def greeks_data(rng: np.random.Generator) -> Data:
    ranges = ((50, 150), (50, 150), (0.1, 2.0), (0.1, 0.5))
    return [rng.uniform(low, high, 1_000_000) for low, high in ranges], [], []


def greeks(m: Any, spot: Any, strike: Any, years: Any, volatility: Any) -> Any:
    """The Black-Scholes price of calls, summed; its gradient holds delta, vega and minus theta of each."""
    spread = volatility * m.sqrt(years)
    d1 = (m.log(spot / strike) + (INTEREST + 0.5 * volatility * volatility) * years) / spread
    d2 = d1 - spread
    reach = 0.5 + 0.5 * m.erf(d1 * ROOT_HALF)
    pay = 0.5 + 0.5 * m.erf(d2 * ROOT_HALF)
    return m.sum(spot * reach - strike * m.exp(-INTEREST * years) * pay)


def greeks_by_hand(spot: Array, strike: Array, years: Array, volatility: Array) -> Arrays:
    from scipy.special import ndtr

    root = np.sqrt(years)
    spread = volatility * root
    d1 = (np.log(spot / strike) + (INTEREST + 0.5 * volatility * volatility) * years) / spread
    discounted = np.exp(-INTEREST * years) * ndtr(d1 - spread)
    vega = spot * root * (np.exp(-0.5 * d1 * d1) * (0.5 / np.pi) ** 0.5)
    by_years = vega * volatility / (2.0 * years) + INTEREST * strike * discounted
    return [ndtr(d1), -discounted, by_years, vega]


# -- next to nothing: what a call costs ----------------------------------------------------------------------


def call_data(rng: np.random.Generator) -> Data:
    return [rng.standard_normal(3) for _ in range(3)], [], []


def call(m: Any, x: Any, y: Any, z: Any) -> Any:
    return x * y + z


def call_by_hand(x: Array, y: Array, z: Array) -> Arrays:
    return [x * y + z]


WORKLOADS = {
    "chain": Workload(
        chain_data,
        chain,
        chain_by_hand,
        targets={"best peer": 0.45},
        compiled={"best peer": 0.7},
        unit="us per op",
        scale=US_PER_OP,
    ),
    "mlp": Workload(mlp_data, mlp, mlp_by_hand, "gradient", {"best peer": 1.0}, {"best peer": 1.0}),
    "rosenbrock": Workload(
        rosenbrock_data, rosenbrock, rosenbrock_by_hand, "gradient", {"autograd": 0.9}, {"best peer": 1.0}
    ),
    "logistic": Workload(
        logistic_data, logistic, logistic_by_hand, "gradient", {"autograd": 0.9}, {"best peer": 0.9}
    ),
    "greeks": Workload(
        greeks_data, greeks, greeks_by_hand, "gradient", {"autograd": 0.9}, {"best peer": 1.0}
    ),
    "chain_value": Workload(chain_data, steps, steps_by_hand, "value", unit="us per op", scale=US_PER_OP),
    "chain_jvp": Workload(
        chain_and_tangent,
        steps,
        steps_jvp_by_hand,
        "jvp",
        targets={"chain_value": 4.0},
        unit="us per op",
        scale=US_PER_OP,
    ),
    "jacobian": Workload(
        layers_data, layers, jacobian_by_hand, "jacobian", {"best peer": 1.0}, {"best peer": 1.0}
    ),
    "hessian": Workload(
        layers_data, layers_sum, hessian_by_hand, "hessian", {"best peer": 1.0}, {"best peer": 1.0}
    ),
    "hvp": Workload(layers_and_direction, layers_sum, hvp_by_hand, "hvp"),
    "rosenbrock_hvp": Workload(rosenbrock_and_direction, rosenbrock, rosenbrock_hvp_by_hand, "hvp"),
    "per_example": Workload(per_example_data, per_example, per_example_by_hand, "per_example"),
    "call": Workload(call_data, call, call_by_hand, "value", compiled={"us": 6.0}, unit="us", scale=1e6),
}
