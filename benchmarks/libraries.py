"""The libraries that speed.py times: the functions that its workloads use, and each derivative in their way.

A derivative takes a function, its sources, and what it is taken along (directions or examples: workloads.py),
and returns what is timed: a function without arguments that gives the arrays. All but "gradient" and
"per_example" are by one source. A derivative that a library lacks is not in its namespace. `compiled` is the
library's compiler, for a function of arrays that gives arrays.
"""

import importlib
from collections.abc import Callable, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np

Function = Callable[..., Any]
Run = Callable[[], Sequence[Any]]


def value(f: Function, sources: list[Any], along: list[Any]) -> Run:
    """The function itself: nobody records."""
    return lambda: [f(*sources)]


def tensorflow_like(name: str, **compiler: Any) -> SimpleNamespace:
    """gradtape or TensorFlow; what is given to its `function` beside the function."""
    tf = importlib.import_module(name)

    def gradient(f: Function, sources: list[Any], along: list[Any]) -> Run:
        def run() -> Any:
            with tf.GradientTape() as tape:
                tape.watch(sources)
                y = f(*sources, *along)
            return tape.gradient(y, sources)

        return run

    def jvp(f: Function, sources: list[Any], along: list[Any]) -> Run:
        def run() -> Any:
            with tf.autodiff.ForwardAccumulator(sources, along) as accumulator:
                y = f(*sources)
            return [accumulator.jvp(y)]

        return run

    def jacobian(f: Function, sources: list[Any], along: list[Any]) -> Run:
        def run() -> Any:
            with tf.GradientTape() as tape:
                tape.watch(sources)
                y = f(*sources)
            return tape.jacobian(y, sources)

        return run

    def hessian(f: Function, sources: list[Any], along: list[Any]) -> Run:
        return jacobian(lambda x: gradient(f, [x], [])()[0], sources, along)

    def hvp(f: Function, sources: list[Any], along: list[Any]) -> Run:
        return jvp(lambda x: gradient(f, [x], [])()[0], sources, along)

    def per_example(f: Function, sources: list[Any], along: list[Any]) -> Run:
        return lambda: tf.vectorized_map(lambda example: gradient(f, sources, example)(), along)

    return SimpleNamespace(
        value=value,
        gradient=gradient,
        jvp=jvp,
        jacobian=jacobian,
        hessian=hessian,
        hvp=hvp,
        per_example=per_example,
        compiled=partial(tf.function, **compiler),
        array=tf.constant,
        sin=tf.sin,
        tanh=tf.tanh,
        exp=tf.exp,
        log=tf.math.log,
        sqrt=tf.sqrt,
        erf=tf.math.erf,
        relu=tf.nn.relu,
        softplus=tf.nn.softplus,
        log_softmax=tf.nn.log_softmax,
        sum=tf.reduce_sum,
        mean=tf.reduce_mean,
        matmul=tf.matmul,
        matvec=tf.linalg.matvec,
    )


def pytorch() -> SimpleNamespace:
    import torch
    from torch import func

    def gradient(f: Function, sources: list[Any], along: list[Any]) -> Run:
        if torch.compiler.is_compiling():  # so that forward and backward are one program
            return partial(func.grad(f, argnums=tuple(range(len(sources)))), *sources)
        leaves = [x.requires_grad_() for x in sources]
        return lambda: torch.autograd.grad(f(*leaves), leaves)

    def jvp(f: Function, sources: list[Any], along: list[Any]) -> Run:
        return lambda: [func.jvp(f, tuple(sources), tuple(along))[1]]

    def jacobian(f: Function, sources: list[Any], along: list[Any]) -> Run:
        return lambda: [func.jacrev(f)(*sources)]

    def hessian(f: Function, sources: list[Any], along: list[Any]) -> Run:
        return lambda: [func.hessian(f)(*sources)]

    def hvp(f: Function, sources: list[Any], along: list[Any]) -> Run:
        return jvp(func.grad(f), sources, along)

    def per_example(f: Function, sources: list[Any], along: list[Any]) -> Run:
        gradients = func.grad(f, argnums=tuple(range(len(sources))))
        mapped = func.vmap(gradients, in_dims=(None,) * len(sources) + (0,) * len(along))
        return lambda: mapped(*sources, *along)

    return SimpleNamespace(
        value=value,
        gradient=gradient,
        jvp=jvp,
        jacobian=jacobian,
        hessian=hessian,
        hvp=hvp,
        per_example=per_example,
        compiled=torch.compile,
        array=torch.tensor,
        sin=torch.sin,
        tanh=torch.tanh,
        exp=torch.exp,
        log=torch.log,
        sqrt=torch.sqrt,
        erf=torch.erf,
        relu=torch.relu,
        softplus=torch.nn.functional.softplus,
        log_softmax=partial(torch.log_softmax, dim=-1),
        sum=torch.sum,
        mean=torch.mean,
        matmul=torch.matmul,
        matvec=torch.mv,
    )


def jax_numpy() -> SimpleNamespace:
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    ready = jax.block_until_ready

    def gradient(f: Function, sources: list[Any], along: list[Any]) -> Run:
        transformed = jax.grad(f, argnums=tuple(range(len(sources))))
        return lambda: ready(transformed(*sources))

    def jvp(f: Function, sources: list[Any], along: list[Any]) -> Run:
        return lambda: [ready(jax.jvp(f, sources, along)[1])]

    def jacobian(f: Function, sources: list[Any], along: list[Any]) -> Run:
        return lambda: [ready(jax.jacrev(f)(*sources))]

    def hessian(f: Function, sources: list[Any], along: list[Any]) -> Run:
        return lambda: [ready(jax.hessian(f)(*sources))]

    def hvp(f: Function, sources: list[Any], along: list[Any]) -> Run:
        return jvp(jax.grad(f), sources, along)

    def per_example(f: Function, sources: list[Any], along: list[Any]) -> Run:
        gradients = jax.grad(f, argnums=tuple(range(len(sources))))
        mapped = jax.vmap(gradients, in_axes=(None,) * len(sources) + (0,) * len(along))
        return lambda: ready(mapped(*sources, *along))

    def compiled(f: Function) -> Function:
        program = jax.jit(f)
        return lambda *arrays: ready(program(*arrays))

    return SimpleNamespace(
        compiled=compiled,
        value=lambda f, sources, along: lambda: [ready(f(*sources))],
        gradient=gradient,
        jvp=jvp,
        jacobian=jacobian,
        hessian=hessian,
        hvp=hvp,
        per_example=per_example,
        array=jnp.asarray,
        sin=jnp.sin,
        tanh=jnp.tanh,
        exp=jnp.exp,
        log=jnp.log,
        sqrt=jnp.sqrt,
        erf=jax.scipy.special.erf,
        relu=jax.nn.relu,
        softplus=jax.nn.softplus,
        log_softmax=jax.nn.log_softmax,
        sum=jnp.sum,
        mean=jnp.mean,
        matmul=jnp.matmul,
        matvec=jnp.matmul,
    )


def hips_autograd() -> SimpleNamespace:
    import autograd
    import autograd.numpy as anp
    import autograd.scipy.special as special

    def gradient(f: Function, sources: list[Any], along: list[Any]) -> Run:
        return partial(autograd.grad(f, list(range(len(sources)))), *sources)

    def jvp(f: Function, sources: list[Any], along: list[Any]) -> Run:
        return lambda: [autograd.make_jvp(f)(*sources)(*along)[1]]

    def jacobian(f: Function, sources: list[Any], along: list[Any]) -> Run:
        return lambda: [autograd.jacobian(f)(*sources)]

    def hessian(f: Function, sources: list[Any], along: list[Any]) -> Run:
        return lambda: [autograd.hessian(f)(*sources)]

    def hvp(f: Function, sources: list[Any], along: list[Any]) -> Run:
        return lambda: [autograd.hessian_vector_product(f)(*sources, *along)]

    def log_softmax(x: Any) -> Any:
        shifted = x - anp.max(x, axis=-1, keepdims=True)
        return shifted - anp.log(anp.sum(anp.exp(shifted), axis=-1, keepdims=True))

    return SimpleNamespace(
        value=value,
        gradient=gradient,
        jvp=jvp,
        jacobian=jacobian,
        hessian=hessian,
        hvp=hvp,
        array=np.asarray,
        sin=anp.sin,
        tanh=anp.tanh,
        exp=anp.exp,
        log=anp.log,
        sqrt=anp.sqrt,
        erf=special.erf,
        relu=lambda x: anp.maximum(x, 0),
        softplus=lambda x: anp.logaddexp(0.0, x),
        log_softmax=log_softmax,
        sum=anp.sum,
        mean=anp.mean,
        matmul=anp.matmul,
        matvec=anp.matmul,
    )


LIBRARIES: dict[str, Callable[[], SimpleNamespace]] = {
    "gradtape": partial(tensorflow_like, "gradtape"),
    "torch": pytorch,
    "jax": jax_numpy,
    "tensorflow": partial(tensorflow_like, "tensorflow", jit_compile=True),
    "autograd": hips_autograd,
}
