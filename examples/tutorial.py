"""The gradient tape's tutorial, step by step: each result is printed beside the code that gives it."""

import ast
import shutil
from itertools import zip_longest

import gradtape as gt

STEPS = {
    "A derivative with respect to the input": """
x = gt.ones((2, 2))
with gt.GradientTape() as tape:
    tape.watch(x)
    y = gt.reduce_sum(x)
    z = gt.multiply(y, y)
tape.gradient(z, x)
""",
    "A derivative with respect to an intermediate value": """
x = gt.ones((2, 2))
with gt.GradientTape() as tape:
    tape.watch(x)
    y = gt.reduce_sum(x)
    z = gt.multiply(y, y)
tape.gradient(z, y)
""",
    "A persistent tape answers more than once": """
x = gt.constant(3.0)
with gt.GradientTape(persistent=True) as tape:
    tape.watch(x)
    y = x * x
    z = y * y
tape.gradient(z, x)
tape.gradient(y, x)
del tape
""",
    "Control flow is recorded as it runs": """
def f(x, y):
    output = 1.0
    for i in range(1, y + 1):
        if 2 < i <= 5:
            output = gt.multiply(output, x)
    return output
def grad(x, y):
    with gt.GradientTape() as tape:
        tape.watch(x)
        out = f(x, y)
    return tape.gradient(out, x)
x = gt.constant(2.0)
grad(x, 6)
grad(x, 5)
grad(x, 4)
""",
    "Higher-order derivatives: a tape within a tape": """
x = gt.Variable(1.0)
with gt.GradientTape() as outer:
    with gt.GradientTape() as inner:
        y = x * x * x
    dy_dx = inner.gradient(y, x)
d2y_dx2 = outer.gradient(dy_dx, x)
dy_dx
d2y_dx2
""",
}
CODE_WIDTH = 48


def run(code: str, names: dict[str, object]) -> None:
    """Executes each statement; the value of an expression is printed to the right of it."""
    for statement in ast.parse(code).body:
        source = ast.get_source_segment(code, statement) or ""
        result = ""
        if isinstance(statement, ast.Expr):
            result = str(eval(source, names))
        else:
            exec(source, names)
        for left, right in zip_longest(source.splitlines(), result.splitlines(), fillvalue=""):
            print(f"  {left:{CODE_WIDTH}}{right}".rstrip())


def main() -> None:
    """Prints every step."""
    for number, (title, code) in enumerate(STEPS.items(), 1):
        heading = f"{number}. {title} "
        print("\n" + heading + "-" * (min(shutil.get_terminal_size().columns, 100) - len(heading)))
        run(code.strip(), {"gt": gt})
    print()


if __name__ == "__main__":
    main()
