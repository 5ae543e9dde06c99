"""What an elementwise op is in LLVM's language: instructions on one number, or on a vector of them alike.

Arithmetic is IEEE's, with no flag that lets LLVM reorder or contract it, and gives what NumPy gives.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from gradtape.compile.graph import Node, Spec
from gradtape.compile.native.text import FLOATS, INTS, KINDS, Lanes, Text, literal, typed

__all__ = ["REDUCTIONS", "TRANSCENDENTAL", "can_compute", "cast", "computed"]

# -- the C library's functions -------------------------------------------------------------------------------

TRANSCENDENTAL = {
    **dict.fromkeys(("exp", "expm1", "log", "log1p", "erf", "erfc", "sin", "cos", "tan"), 1),
    **dict.fromkeys(("asin", "acos", "atan", "sinh", "cosh", "tanh", "asinh", "acosh", "atanh"), 1),
    "pow": 2,
    "atan2": 2,
}


_PRECISELY = frozenset({"log"})  # functions that are 4 ulp off in single precision: computed in double


def function(t: Text, name: str, kind: str, width: int, *arguments: str) -> str:
    """A function of C's mathematics: of vectors where the machine has it, else of each lane."""
    if name in _PRECISELY and kind == "float":
        doubles = [cast(t, Lanes(x, kind, width), "double").text for x in arguments]
        return cast(t, Lanes(function(t, name, "double", width, *doubles), "double", width), kind).text
    symbol = f"{name}f" if kind == "float" else name
    known = t.vectors(name, kind, len(arguments)) if width > 1 else None
    if not known:
        return _by_lane(t, symbol, kind, width, arguments)
    size = min((n for n in known if n >= width), default=max(known))
    if size == width:
        return t.call(known[size], kind, size, arguments)
    pieces = []
    for start in range(0, width, size):
        lanes = [min(start + i, width - 1) for i in range(size)]
        pieces.append(t.call(known[size], kind, size, [t.shuffled(x, kind, width, lanes) for x in arguments]))
    return _joined(t, kind, size, pieces, width)


def _by_lane(t: Text, symbol: str, kind: str, width: int, arguments: Sequence[str]) -> str:
    """A function of C on one number, or on each lane of vectors."""
    if width == 1:
        return t.call(symbol, kind, 1, arguments)
    total = "poison"
    for i in range(width):
        lane = [t.emit(f"extractelement {typed(kind, width)} {x}, i64 {i}") for x in arguments]
        one = t.call(symbol, kind, 1, lane)
        total = t.emit(f"insertelement {typed(kind, width)} {total}, {kind} {one}, i64 {i}")
    return total


def _joined(t: Text, kind: str, size: int, pieces: Sequence[str], width: int) -> str:
    """Vectors of `size` lanes as one of `width`."""
    total, length = pieces[0], size
    for piece in pieces[1:]:
        same = piece
        if length > size:
            same = t.shuffled(piece, kind, size, [i if i < size else -1 for i in range(length)])
        total = t.shuffled(total, kind, length, range(length + size), same)
        length += size
    return total if length == width else t.shuffled(total, kind, length, range(width))


# -- arithmetic ----------------------------------------------------------------------------------------------

Emit = Callable[..., str]  # (text, kind, width, *operands) -> the result


def _binary(of_floats: str, of_ints: str, of_bools: str) -> Emit:
    def emit(t: Text, kind: str, width: int, a: str, b: str) -> str:
        name = of_floats if kind in FLOATS else of_bools if kind == "i1" else of_ints
        return t.emit(f"{name} {typed(kind, width)} {a}, {b}")

    return emit


def _number(t: Text, value: float, kind: str, width: int) -> str:
    return t.widened(Lanes(literal(value, kind), kind), width)


def _compare(t: Text, how: str, kind: str, width: int, a: str, b: str) -> str:
    """How: an fcmp predicate for floats, an icmp predicate for the others."""
    return t.emit(f"{'fcmp' if kind in FLOATS else 'icmp'} {how} {typed(kind, width)} {a}, {b}")


def _choose(t: Text, kind: str, width: int, condition: str, a: str, b: str) -> str:
    return t.emit(
        f"select {typed('i1', width)} {condition}, {typed(kind, width)} {a}, {typed(kind, width)} {b}"
    )


def _comparison(of_floats: str, of_ints: str) -> Emit:
    def emit(t: Text, kind: str, width: int, a: str, b: str) -> str:
        how = of_floats if kind in FLOATS else of_ints.replace("s", "u") if kind == "i1" else of_ints
        return _compare(t, how, kind, width, a, b)

    return emit


def _negative(t: Text, kind: str, width: int, a: str) -> str:
    if kind in FLOATS:
        return t.emit(f"fneg {typed(kind, width)} {a}")
    return t.emit(f"sub {typed(kind, width)} {_number(t, 0, kind, width)}, {a}")


def _abs(t: Text, kind: str, width: int, a: str) -> str:
    if kind in FLOATS:
        return t.intrinsic("fabs", kind, width, a)
    if kind == "i1":
        return a
    negative = _compare(t, "slt", kind, width, a, _number(t, 0, kind, width))
    return _choose(t, kind, width, negative, _negative(t, kind, width, a), a)


def _extreme(name: str, of_floats: str, of_ints: str, of_bools: str) -> Emit:
    """NaN where either is; of two zeros, x86's instruction and NumPy's loops take the second."""

    def emit(t: Text, kind: str, width: int, a: str, b: str) -> str:
        if kind == "i1":
            return t.emit(f"{of_bools} {typed(kind, width)} {a}, {b}")
        if kind in INTS:
            return _choose(t, kind, width, _compare(t, of_ints, kind, width, a, b), a, b)
        if not t.x86:
            return t.intrinsic(name, kind, width, a, b)
        found = _choose(t, kind, width, _compare(t, of_floats, kind, width, a, b), a, b)
        return _choose(t, kind, width, _compare(t, "uno", kind, width, a, a), a, found)

    return emit


def _sign(t: Text, kind: str, width: int, a: str) -> str:
    zero = _number(t, 0, kind, width)
    above, below = ("ogt", "olt") if kind in FLOATS else ("sgt", "slt")
    rest = a
    if kind in FLOATS:
        rest = _choose(t, kind, width, _compare(t, "oeq", kind, width, a, zero), zero, a)
    low = _choose(t, kind, width, _compare(t, below, kind, width, a, zero), _number(t, -1, kind, width), rest)
    return _choose(t, kind, width, _compare(t, above, kind, width, a, zero), _number(t, 1, kind, width), low)


def _rounding(intrinsic: str) -> Emit:
    return lambda t, kind, width, a: t.intrinsic(intrinsic, kind, width, a) if kind in FLOATS else a


def _mod(t: Text, kind: str, width: int, a: str, b: str) -> str:
    return _divmod(t, kind, width, a, b)[1]


def _floordiv(t: Text, kind: str, width: int, a: str, b: str) -> str:
    return _divmod(t, kind, width, a, b)[0]


def _divmod(t: Text, kind: str, width: int, a: str, b: str) -> tuple[str, str]:
    """Quotient rounded down and remainder of b's sign, as Python has them; of integers by 0, both 0."""
    type_, zero, one = typed(kind, width), _number(t, 0, kind, width), _number(t, 1, kind, width)
    if kind in INTS:
        by_zero = _compare(t, "eq", kind, width, b, zero)
        by_minus_one = _compare(t, "eq", kind, width, b, _number(t, -1, kind, width))
        divisor = _choose(t, kind, width, by_zero, one, _choose(t, kind, width, by_minus_one, one, b))
        quotient = t.emit(f"sdiv {type_} {a}, {divisor}")
        rest = t.emit(f"sub {type_} {a}, {t.emit(f'mul {type_} {quotient}, {divisor}')}")
        differ = _compare(t, "slt", kind, width, t.emit(f"xor {type_} {rest}, {b}"), zero)
        some = _compare(t, "ne", kind, width, rest, zero)
        down = t.emit(f"and {typed('i1', width)} {differ}, {some}")
        lower = _choose(t, kind, width, down, t.emit(f"sub {type_} {quotient}, {one}"), quotient)
        lower = _choose(t, kind, width, by_minus_one, _negative(t, kind, width, a), lower)
        rest = _choose(t, kind, width, down, t.emit(f"add {type_} {rest}, {b}"), rest)
        return _choose(t, kind, width, by_zero, zero, lower), rest
    remainder = _by_lane(t, "fmodf" if kind == "float" else "fmod", kind, width, [a, b])
    some = _compare(t, "une", kind, width, remainder, zero)
    signs = t.emit(
        f"xor {typed('i1', width)} {_compare(t, 'olt', kind, width, b, zero)}, "
        f"{_compare(t, 'olt', kind, width, remainder, zero)}"
    )
    down = t.emit(f"and {typed('i1', width)} {signs}, {some}")
    quotient = t.emit(f"fdiv {type_} {t.emit(f'fsub {type_} {a}, {remainder}')}, {b}")
    quotient = _choose(t, kind, width, down, t.emit(f"fsub {type_} {quotient}, {one}"), quotient)
    whole = t.intrinsic("floor", kind, width, quotient)
    over = t.emit(f"fsub {type_} {quotient}, {whole}")
    beyond = _compare(t, "ogt", kind, width, over, _number(t, 0.5, kind, width))
    whole = _choose(t, kind, width, beyond, t.emit(f"fadd {type_} {whole}, {one}"), whole)
    plain = t.emit(f"fdiv {type_} {a}, {b}")
    nought = t.intrinsic("copysign", kind, width, zero, plain)
    whole = _choose(t, kind, width, _compare(t, "une", kind, width, quotient, zero), whole, nought)
    whole = _choose(t, kind, width, _compare(t, "oeq", kind, width, b, zero), plain, whole)
    signed = t.intrinsic("copysign", kind, width, zero, b)
    rest = _choose(
        t,
        kind,
        width,
        some,
        _choose(t, kind, width, down, t.emit(f"fadd {type_} {remainder}, {b}"), remainder),
        signed,
    )
    return whole, _choose(t, kind, width, _compare(t, "oeq", kind, width, b, zero), remainder, rest)


def _is_nan(t: Text, kind: str, width: int, a: str) -> str:
    return _compare(t, "uno", kind, width, a, a) if kind in FLOATS else _number(t, False, "i1", width)


def _is_inf(t: Text, kind: str, width: int, a: str) -> str:
    if kind not in FLOATS:
        return _number(t, False, "i1", width)
    return _compare(t, "oeq", kind, width, _abs(t, kind, width, a), _number(t, math.inf, kind, width))


def _is_finite(t: Text, kind: str, width: int, a: str) -> str:
    if kind not in FLOATS:
        return _number(t, True, "i1", width)
    return _compare(t, "olt", kind, width, _abs(t, kind, width, a), _number(t, math.inf, kind, width))


def _not(t: Text, kind: str, width: int, a: str) -> str:
    ones = _number(t, True if kind == "i1" else -1, kind, width)
    return t.emit(f"xor {typed(kind, width)} {a}, {ones}")


def _bits(name: str) -> Emit:
    return lambda t, kind, width, a, b: t.emit(f"{name} {typed(kind, width)} {a}, {b}")


def _of_c(name: str) -> Emit:
    return lambda t, kind, width, *arguments: function(t, name, kind, width, *arguments)


def cast(t: Text, x: Lanes, kind: str) -> Lanes:
    """x converted as NumPy does, which leaves what is beyond the range of an integer to the machine."""
    given, width = x.kind, x.width
    if given == kind:
        return x
    old, new = typed(given, width), typed(kind, width)
    if kind == "i1":
        how = "une" if given in FLOATS else "ne"
        return Lanes(_compare(t, how, given, width, x.text, _number(t, 0, given, width)), kind, width)
    if given == "i1":
        return Lanes(t.emit(f"{'uitofp' if kind in FLOATS else 'zext'} {old} {x.text} to {new}"), kind, width)
    if kind in FLOATS:
        how = "sitofp" if given in INTS else "fpext" if kind == "double" else "fptrunc"
        return Lanes(t.emit(f"{how} {old} {x.text} to {new}"), kind, width)
    if given in INTS:
        return Lanes(t.emit(f"{'sext' if kind == 'i64' else 'trunc'} {old} {x.text} to {new}"), kind, width)
    return Lanes(_to_integer(t, x, kind), kind, width)


def _to_integer(t: Text, x: Lanes, kind: str) -> str:
    given, width = x.kind, x.width
    if not t.x86:
        suffix = ("f32" if given == "float" else "f64", kind)
        vector = [s if width == 1 else f"v{width}{s}" for s in suffix]
        return t.call(f"llvm.fptosi.sat.{vector[1]}.{vector[0]}", kind, width, [x.text], given)
    least = -(2 ** (int(kind[1:]) - 1))
    above = _compare(t, "oge", given, width, x.text, _number(t, least, given, width))
    below = _compare(t, "olt", given, width, x.text, _number(t, -least, given, width))
    inside = t.emit(f"and {typed('i1', width)} {above}, {below}")
    whole = t.emit(f"fptosi {typed(given, width)} {x.text} to {typed(kind, width)}")
    return _choose(t, kind, width, inside, whole, _number(t, least, kind, width))


# -- the table -----------------------------------------------------------------------------------------------


# Which of C's integers NumPy's type codes name depends on the system; so these are codes of our own.
_CODES = {"float": "f", "double": "d", "i32": "i", "i64": "l", "i1": "?"}


class _Rule(NamedTuple):
    """kinds: what it computes in, as codes; shared: in the operands' common dtype, not the result's."""

    emit: Emit
    kinds: str
    shared: bool = False


_TABLE: dict[str, _Rule] = {
    "add": _Rule(_binary("fadd", "add", "or"), "fdil?"),
    "subtract": _Rule(_binary("fsub", "sub", ""), "fdil"),
    "multiply": _Rule(_binary("fmul", "mul", "and"), "fdil?"),
    "divide": _Rule(_binary("fdiv", "", ""), "fd"),
    "negative": _Rule(_negative, "fdil"),
    "abs": _Rule(_abs, "fdil?"),
    "maximum": _Rule(_extreme("maximum", "ogt", "sgt", "or"), "fdil?"),
    "minimum": _Rule(_extreme("minimum", "olt", "slt", "and"), "fdil?"),
    "equal": _Rule(_comparison("oeq", "eq"), "fdil?", True),
    "not_equal": _Rule(_comparison("une", "ne"), "fdil?", True),
    "less": _Rule(_comparison("olt", "slt"), "fdil?", True),
    "less_equal": _Rule(_comparison("ole", "sle"), "fdil?", True),
    "greater": _Rule(_comparison("ogt", "sgt"), "fdil?", True),
    "greater_equal": _Rule(_comparison("oge", "sge"), "fdil?", True),
    "logical_and": _Rule(_bits("and"), "?"),
    "logical_or": _Rule(_bits("or"), "?"),
    "logical_xor": _Rule(_bits("xor"), "?"),
    "logical_not": _Rule(_not, "?"),
    "bitwise_and": _Rule(_bits("and"), "il?"),
    "bitwise_or": _Rule(_bits("or"), "il?"),
    "bitwise_xor": _Rule(_bits("xor"), "il?"),
    "bitwise_invert": _Rule(_not, "il?"),
    "sqrt": _Rule(lambda t, kind, width, a: t.intrinsic("sqrt", kind, width, a), "fd"),
    "floor": _Rule(_rounding("floor"), "fdil"),
    "ceil": _Rule(_rounding("ceil"), "fdil"),
    "round": _Rule(_rounding("rint"), "fdil"),
    "sign": _Rule(_sign, "fdil"),
    "mod": _Rule(_mod, "fdil"),
    "floordiv": _Rule(_floordiv, "fdil"),
    "is_nan": _Rule(_is_nan, "fdil?", True),
    "is_inf": _Rule(_is_inf, "fdil?", True),
    "is_finite": _Rule(_is_finite, "fdil?", True),
    "identity": _Rule(lambda t, kind, width, a: a, "fdil?"),
    "smooth_cast": _Rule(lambda t, kind, width, a: a, "fd"),
    "discrete_cast": _Rule(lambda t, kind, width, a: a, "il?"),
    **{name: _Rule(_of_c(name), "fd") for name in TRANSCENDENTAL},
}

# What a reduction begins with, of floats and of integers by their bits, and how it takes in one more.
REDUCTIONS: dict[str, tuple[Callable[[str], float], Emit]] = {
    "reduce_sum": (lambda kind: 0, _TABLE["add"].emit),
    "reduce_prod": (lambda kind: 1, _TABLE["multiply"].emit),
    "reduce_max": (lambda kind: _worst(kind, -1), _TABLE["maximum"].emit),
    "reduce_min": (lambda kind: _worst(kind, 1), _TABLE["minimum"].emit),
    "reduce_any": (lambda kind: 0, _TABLE["logical_or"].emit),
    "reduce_all": (lambda kind: 1, _TABLE["logical_and"].emit),
}


def _worst(kind: str, sign: int) -> float:
    """What every number of the kind is beyond, or at, on the side of the sign."""
    if kind in FLOATS:
        return math.inf * sign
    if kind == "i1":
        return sign > 0
    least: int = -(2 ** (int(kind[1:]) - 1))
    return -least - 1 if sign > 0 else least


def can_compute(node: Node, specs: Mapping[int, Spec], constants: Mapping[int, Any]) -> bool:
    """Whether the node is an elementwise op of the table, of dtypes that it is compiled for."""
    rule = _TABLE.get(node.op.name)
    if rule is None or any(specs[x].dtype not in KINDS for x in (*node.operands, *node.outs) if x in specs):
        return False
    operands = [specs[x].dtype if x in specs else constants[x] for x in node.operands]
    if not all(isinstance(x, (np.dtype, int, float)) for x in operands):
        return False
    if node.op.name == "pow" and _power(node, specs, constants) is not None:
        return True
    try:
        shared = np.result_type(*operands[1:] if node.op.name == "where" else operands)
    except (OverflowError, TypeError):
        return False
    if shared not in KINDS or not all(map(_fits, operands, [shared] * len(operands))):
        return False
    return _CODES[KINDS[shared if rule.shared else specs[node.outs[0]].dtype]] in rule.kinds


def _fits(operand: Any, dtype: np.dtype[Any]) -> bool:
    """Whether a Python integer is one of those that the dtype holds."""
    if type(operand) is not int:
        return True
    if dtype.kind != "i":
        return abs(operand) < 2**63
    return bool(np.iinfo(dtype).min <= operand <= np.iinfo(dtype).max)


def computed(
    t: Text,
    node: Node,
    operands: Sequence[Lanes | None],
    specs: Mapping[int, Spec],
    constants: Mapping[int, Any],
) -> Lanes:
    """The node's result in as many lanes as its operands have; None is an operand that is a Python number."""
    given = list(operands)
    width = max((x.width for x in given if x is not None), default=1)
    out = KINDS[specs[node.outs[0]].dtype]
    exponent = _power(node, specs, constants) if node.op.name == "pow" else None
    if exponent is not None:
        assert given[0] is not None
        return _to_the_power(t, cast(t, given[0], out), exponent)
    rule = _TABLE[node.op.name]
    kind = out
    if rule.shared:
        kind = KINDS[np.result_type(*[specs[x].dtype if x in specs else constants[x] for x in node.operands])]
    kinds = [kind] * len(given)
    if node.op.name == "where":
        kinds[0] = "i1"
    lanes = [
        Lanes(literal(constants[number], wanted), wanted) if x is None else cast(t, x, wanted)
        for x, wanted, number in zip(given, kinds, node.operands, strict=True)
    ]
    texts = [t.widened(x, width) for x in lanes]
    return Lanes(rule.emit(t, kind, width, *texts), "i1" if rule.shared else out, width)


_TABLE["where"] = _Rule(_choose, "fdil?")


# -- powers --------------------------------------------------------------------------------------------------


def _power(node: Node, specs: Mapping[int, Spec], constants: Mapping[int, Any]) -> float | None:
    """The exponent, if it is a Python number that makes the power a product, a quotient or a root."""
    x, y = node.operands
    exponent: float = constants.get(y, math.nan)
    if type(exponent) not in (int, float) or x not in specs or not -1 <= exponent <= 8:
        return None
    kind = specs[node.outs[0]].dtype.kind
    if kind == "i":
        return exponent if type(exponent) is int and exponent >= 0 else None
    if kind != "f" or specs[node.outs[0]].dtype not in KINDS:
        return None
    of_array = bool(specs[x].shape)
    return exponent if exponent == int(exponent) or (exponent == 0.5 and of_array) else None


def _to_the_power(t: Text, x: Lanes, exponent: float) -> Lanes:
    kind, width = x.kind, x.width
    if exponent == 0:
        return Lanes(_number(t, 1, kind, width), kind, width)
    if exponent == 0.5:
        return Lanes(t.intrinsic("sqrt", kind, width, x.text), kind, width)
    if exponent == -1:
        return Lanes(t.emit(f"fdiv {typed(kind, width)} {_number(t, 1, kind, width)}, {x.text}"), kind, width)
    return Lanes(_product(t, x, int(exponent)), kind, width)


def _product(t: Text, x: Lanes, n: int) -> str:
    if n == 1:
        return x.text
    multiply = _TABLE["multiply"].emit
    root = _product(t, x, n // 2)
    square = multiply(t, x.kind, x.width, root, root)
    return multiply(t, x.kind, x.width, square, x.text) if n % 2 else square
