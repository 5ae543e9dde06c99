"""What the package promises from outside: its names, cheap import, version, and benchmarks' claims."""

import importlib
import importlib.metadata
import platform
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

import gradtape as gt

ROOT = Path(__file__).parents[1]

NAMES = {
    "gradtape": """
        Tensor Variable IndexedSlices GradientTape UnconnectedGradients Module
        optimizers errors math nn linalg random testing
        float16 float32 float64 complex64 complex128 int8 int16 int32 int64 uint8 uint16 uint32 uint64 bool
        newaxis is_tensor stop_gradient constant convert_to_tensor ones zeros ones_like zeros_like fill eye
        range linspace one_hot identity cast add subtract multiply divide truediv pow maximum minimum
        negative abs sign square sqrt exp sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh
        sigmoid floor round where clip_by_value equal not_equal less less_equal greater greater_equal
        logical_and logical_or logical_not reduce_sum reduce_mean reduce_prod reduce_max reduce_min
        reduce_any reduce_all reduce_logsumexp cumsum argmax argmin norm clip_by_norm clip_by_global_norm
        reshape transpose expand_dims squeeze concat stack unstack split tile pad reverse roll broadcast_to
        repeat shape size rank gather gather_nd boolean_mask scatter_nd tensor_scatter_nd_update
        tensor_scatter_nd_add sort argsort matmul tensordot einsum custom_gradient custom_jvp recompute_grad
        grad value_and_grad vjp jvp jacobian hessian hvp vectorized_map autodiff
        function TensorSpec print numpy_function config
    """,
    "gradtape.math": """
        add subtract multiply divide truediv floordiv pow maximum minimum negative abs sign square sqrt exp
        sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh sigmoid floor round log log1p expm1
        rsqrt reciprocal erf erfc lgamma digamma softplus mod atan2 squared_difference divide_no_nan
        multiply_no_nan xlogy xdivy ceil real imag conj angle is_nan is_inf is_finite equal not_equal less
        less_equal greater greater_equal logical_and logical_or logical_not logical_xor reduce_sum
        reduce_mean reduce_prod reduce_max reduce_min reduce_any reduce_all reduce_logsumexp reduce_std
        reduce_variance cumsum cumprod argmax argmin top_k segment_sum unsorted_segment_sum
    """,
    "gradtape.nn": """
        relu relu6 leaky_relu elu selu gelu silu softplus sigmoid tanh softmax log_softmax dropout moments
        l2_loss bias_add embedding_lookup softmax_cross_entropy_with_logits
        sparse_softmax_cross_entropy_with_logits sigmoid_cross_entropy_with_logits
    """,
    "gradtape.linalg": """
        matmul matvec tensordot einsum inv solve cholesky det slogdet diag diag_part trace matrix_transpose
        eye norm
    """,
    "gradtape.random": "normal uniform truncated_normal shuffle set_seed Generator",
    "gradtape.optimizers": "Adam SGD",
    "gradtape.testing": "GradientCheckError check_gradients check_op",
    "gradtape.autodiff": "ForwardAccumulator",
    "gradtape.extending": """
        elementwise op composite Sample Uniform Namespace Array Tensor TensorLike LINEAR MULTILINEAR LEADING
        VECTORS MATRICES ALONG_AXIS
    """,
    "gradtape.numpy": """
        add subtract multiply divide floor_divide pow maximum minimum negative abs sign square sqrt exp sin
        cos tan asin acos atan sinh cosh tanh asinh acosh atanh floor ceil round where clip log log1p expm1
        reciprocal remainder atan2 real imag conj isnan isinf isfinite equal not_equal less less_equal
        greater greater_equal logical_and logical_or logical_not logical_xor sum mean prod max min any all
        std var cumulative_sum cumulative_prod argmax argmin reshape permute_dims expand_dims squeeze concat
        stack unstack tile flip roll broadcast_to repeat take sort argsort matmul tensordot vecdot
        matrix_transpose asarray zeros ones full zeros_like ones_like full_like eye arange linspace astype
        linalg
    """,
    "gradtape.numpy.linalg": """
        inv solve cholesky det slogdet diagonal trace matrix_transpose vector_norm matrix_norm
    """,
}
# At the top too, where TensorFlow has them in tf.math only.
EXTRA = {"gradtape": "floordiv logical_xor"}


@pytest.mark.parametrize(("module", "names"), [*NAMES.items(), *EXTRA.items()])
def test_every_name_is_there(module, names):
    found = importlib.import_module(module)
    missing = [name for name in names.split() if not hasattr(found, name)]
    assert not missing
    assert not set(names.split()) - set(getattr(found, "__all__", names.split()))


@pytest.mark.parametrize("module", [*NAMES, "gradtape.errors"])
def test_all_names_what_is_there_once_and_nothing_private(module):
    found = importlib.import_module(module)
    assert len(found.__all__) == len(set(found.__all__))
    assert not [name for name in found.__all__ if name.startswith("_") or not hasattr(found, name)]


def test_methods_that_are_promised():
    for name in [
        "numpy",
        "shape",
        "dtype",
        "ndim",
        "size",
        "T",
        "__len__",
        "__iter__",
        "__index__",
        "__array_ufunc__",
        "__array_function__",
    ]:
        assert hasattr(gt.Tensor, name), name
    for name in ["assign", "assign_add", "assign_sub", "value", "read_value", "trainable", "name", "numpy"]:
        assert hasattr(gt.Variable, name), name
    for name in [
        "watch",
        "gradient",
        "jacobian",
        "batch_jacobian",
        "stop_recording",
        "reset",
        "watched_variables",
        "__enter__",
        "__exit__",
    ]:
        assert hasattr(gt.GradientTape, name), name
    assert hasattr(gt.random.Generator, "from_seed")
    assert hasattr(gt.optimizers.Adam, "apply_gradients")
    assert hasattr(gt.Module, "trainable_variables")


def test_errors_are_kinds_of_what_python_people_catch():
    for name in gt.errors.__all__:
        error = getattr(gt.errors, name)
        kinds = (ValueError, TypeError, LookupError, RuntimeError, ArithmeticError)
        assert issubclass(error, kinds), name
        assert error not in kinds
        assert error.__doc__


HEAVY = ["scipy", "optree", "matplotlib", "numpy.random", "sklearn", "tqdm", "tensorflow"]


def modules_after(code):
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return set(done.stdout.splitlines()[-1].split())


def test_the_import_is_light_and_stays_light_until_an_op_needs_more():
    loaded = modules_after("import gradtape")
    assert "gradtape.ops.nn" in loaded
    assert not loaded & set(HEAVY)
    at_work = modules_after(
        "import gradtape as gt\n"
        "x = gt.Variable([[1.0, 2.0]])\n"
        "with gt.GradientTape() as t:\n"
        "    y = gt.reduce_sum(gt.exp(x @ gt.ones((2, 3))))\n"
        "gt.optimizers.Adam().apply_gradients([(t.gradient(y, x), x)])\n"
    )
    assert not at_work & {"scipy", "matplotlib", "numpy.random"}
    special = modules_after("import gradtape as gt\ngt.math.lgamma([1.0])\ngt.random.normal([1])")
    assert {"scipy.special", "numpy.random"} <= special


FAULTS = """
import resource
import numpy as np
{imports}
for n in range(2):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        some = [np.ones(100_000) for _ in range(6)]
        del some
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's malloc is what is asked")
def test_freed_arrays_are_kept_for_the_next():
    """Else each page of a large array would be faulted in anew, each time."""
    faults = {}
    for imports in ("", "import gradtape"):
        code = FAULTS.replace("{imports}", imports)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        faults[imports] = int(done.stdout)
    assert faults["import gradtape"] < 0.1 * faults[""], faults


def test_the_version_is_one():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert gt.__version__ == project["version"] == importlib.metadata.version("gradtape")
    assert f"## {gt.__version__}" in (ROOT / "CHANGELOG.md").read_text().replace("[", "").replace("]", "")


def test_dependencies_are_those_promised_and_no_more():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {requirement.split(">")[0] for requirement in project["dependencies"]}
    assert names == {"numpy", "scipy", "optree"}
    assert "numpy>=2.1" in project["dependencies"]
    assert project["requires-python"] == ">=3.11"
    assert project["license"] == "Apache-2.0"


def test_types_are_shipped():
    package = Path(gt.__file__).parent
    assert (package / "py.typed").is_file()
    built = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert built["packages"] == ["src/gradtape"]


@pytest.mark.parametrize(
    "file",
    [
        "README.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "LICENSE",
        "Makefile",
        ".pre-commit-config.yaml",
        ".gitignore",
        ".ci/run",
        "docs/tutorial.md",
        "benchmarks/README.md",
        "benchmarks/greeks.c",
        "benchmarks/lookups.py",
        "examples/digits.py",
        "examples/scipy_fit.py",
        "examples/tutorial.py",
    ],
)
def test_what_belongs_in_the_project_is_there(file):
    assert (ROOT / file).stat().st_size > 50


@pytest.fixture
def benchmark(monkeypatch):
    """Imports a benchmark by its name; what lies in its folder is forgotten afterwards."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    names = [path.stem for path in (ROOT / "benchmarks").glob("*.py")]
    for name in names:
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield importlib.import_module
    for name in names:
        sys.modules.pop(name, None)


def test_the_memory_that_the_benchmark_claims(benchmark):
    memory = benchmark("memory")
    assert (memory.SIZE * 8, memory.ADDITIONS) == (8_000_000, 200)
    figures = memory.measured()
    assert [f.what for f in figures if not f.holds] == []
    additions = [f for f in figures if "y = y + b" in f.what]
    assert [f.at_most for f in additions] == [3]
    assert min(f.arrays for f in figures) > 1.5, "an array that is alive must have been counted"
    chains = [f for f in figures if "exp(-y), recorded" in f.what]
    assert [f.at_most for f in chains] == [memory.LENGTH + 1]
    assert chains[0].arrays > memory.LENGTH
    without, recomputed = (f for f in figures if f"{memory.LAYERS} layers" in f.what or "recompute" in f.what)
    assert without.arrays > memory.LAYERS
    assert recomputed.arrays <= without.arrays / 2


@pytest.mark.parametrize("contestant", ["gradtape", "gradtape.function"])
def test_the_derivatives_that_the_benchmark_of_speed_times_are_those_by_hand(benchmark, contestant):
    speed = benchmark("speed")
    asked = {workload.derivative for workload in speed.WORKLOADS.values()}
    assert asked == {"value", "gradient", "jvp", "jacobian", "hessian", "hvp", "per_example"}
    for name, workload in speed.WORKLOADS.items():
        data = workload.data(np.random.default_rng(0))
        run = speed.runner(contestant, workload, data)
        for _ in range(2):  # when it is recorded, and when it is compiled
            answer = run()
            assert speed.wrong_by(answer, workload, data) is None, name
        assert "wrong" in speed.wrong_by([1.01 * np.asarray(x) for x in answer], workload, data)


def test_the_targets_of_the_benchmark_of_speed(benchmark):
    speed = benchmark("speed")
    for workload in speed.WORKLOADS.values():
        assert workload.targets.keys() <= {"best peer", "autograd", *speed.WORKLOADS}
        assert workload.compiled.keys() <= {"best peer", workload.unit}
    times = {"by hand": 1.0, "gradtape": 3.0, "gradtape.function": 0.5, "jax.jit": 2.0, "tf.function": 4.0}
    results = {contestant: {"seconds": t, "first": 2 * t} for contestant, t in times.items()}
    assert speed.ratios(results, speed.COMPILED) == {"best peer": 0.25, "eager": 0.5 / 3.0, "by hand": 0.5}
    assert speed.ratios(results, speed.EAGER) == {"by hand": 3.0}
    assert speed.targets({"greeks": results}, speed.COMPILED) == [
        ("greeks / best peer", "0.25", "1.00", "yes"),
        ("greeks, first call / jax.jit's", "0.25", "1.00", "yes"),
    ]
    assert [row[2:] for row in speed.targets({"call": results}, speed.COMPILED)] == [("6.00", "NO")]


@pytest.mark.skipif(not shutil.which("gcc"), reason="no gcc here")
def test_the_greeks_in_c_are_those_by_hand(benchmark):
    greeks = benchmark("greeks")
    answer = benchmark("common").turn([greeks.__file__, "--turn", "--seconds", "0"])
    assert answer.keys() == {"seconds"}, answer


def test_the_training_step_whose_memory_is_measured_is_the_one_by_hand(benchmark):
    training = benchmark("training")
    sizes = training.NETWORKS["784-256-10"]
    learner = training.with_gradtape(*training.data(sizes))
    for _ in range(2 * training.STEPS - 1):
        learner.step()
    assert "wrong" in training.wrong_by(learner.weights(), sizes)
    learner.step()
    assert training.wrong_by(learner.weights(), sizes) is None


def test_the_picture_of_sizes(benchmark, tmp_path):
    speed, sweep = benchmark("speed"), benchmark("sweep")
    assert (min(sweep.SIZES), max(sweep.SIZES)) == (10, 10**7)
    turn = speed.one_turn("gradtape.function", sweep.workload(1000), 0)
    assert "seconds" in turn, turn
    assert sweep.spread([0.0, 0.1, 0.12, 0.9], 0.1) == pytest.approx([-0.0267, 0.0733, 0.1733, 0.9], abs=1e-4)
    found = {contestant: dict.fromkeys(sweep.SIZES, turn) for contestant in list(sweep.LINES)[:3]}
    sweep.draw(found, tmp_path / "sweep.svg")
    assert b"<svg" in (tmp_path / "sweep.svg").read_bytes()
