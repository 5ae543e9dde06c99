"""Module: which variables and modules it finds, in which order, however it holds them."""

import copy
import gc
import pickle
import weakref
from collections import OrderedDict
from typing import Any, NamedTuple

import pytest

import gradtape as gt


class Pair(NamedTuple):
    left: Any
    right: Any


class Dense(gt.Module):
    def __init__(self, name=None, trainable=True):
        super().__init__(name=name)
        self.weight = gt.Variable([2.0], name="weight")
        self.bias = gt.Variable([1.0], name="bias", trainable=trainable)

    def __call__(self, x):
        return x * self.weight + self.bias


class HTTPServer2Model(gt.Module):
    pass


def names(variables):
    return [v.name.removesuffix(":0") for v in variables]


def variable(name, **keywords):
    return gt.Variable(1.0, name=name, **keywords)


def test_own_variables_come_first_by_attribute_then_those_inside():
    model = gt.Module()
    model.z = variable("z")
    model.layer = Dense()
    model.a = variable("a")
    assert names(model.variables) == ["a", "z", "bias", "weight"]
    assert isinstance(model.variables, tuple)
    assert isinstance(model.trainable_variables, tuple)
    assert isinstance(model.submodules, tuple)


def test_variables_of_modules_inside_modules_come_level_by_level_of_each():
    model, outer = gt.Module(), gt.Module()
    outer.b = variable("b")
    outer.inner = Dense()
    model.outer, model.a = outer, variable("a")
    model.zz = Dense(name="zz")
    assert names(model.variables) == ["a", "b", "bias", "weight", "bias", "weight"]
    assert model.submodules == (outer, model.zz, outer.inner)


@pytest.mark.parametrize(
    "hold",
    [
        lambda *v: list(v),
        lambda *v: tuple(v),
        lambda *v: Pair(v[0], list(v[1:])),
        lambda *v: {"b": v[1], "a": v[0], "c": v[2]},
        lambda *v: OrderedDict(b=v[1], c=v[2], a=v[0]),
        lambda *v: {2: v[1], 1: v[0], 3: v[2]},
        lambda *v: {"x": v[0], 1: v[1], (): v[2]},
        lambda *v: [[v[0]], ({"x": [v[1]]}, [[v[2]]])],
    ],
    ids=["list", "tuple", "namedtuple", "dict", "OrderedDict", "int keys", "mixed keys", "nested"],
)
def test_containers_are_searched(hold):
    model = gt.Module()
    model.held = hold(variable("one"), variable("two"), variable("three"))
    assert names(model.variables) == ["one", "two", "three"]


def test_nothing_is_given_twice():
    model, shared = gt.Module(), Dense()
    model.a = model.b = shared
    model.list = [shared, shared.weight, {"w": shared.weight}]
    assert sorted(names(model.variables)) == ["bias", "weight"]
    assert model.submodules == (shared,)


def test_equal_variables_are_two():
    model = gt.Module()
    model.a, model.b = gt.Variable(1.0), gt.Variable(1.0)
    assert [v is w for v, w in zip(model.variables, (model.a, model.b), strict=True)] == [True, True]


def test_modules_and_lists_that_hold_each_other_or_themselves():
    a, b = gt.Module(name="a"), gt.Module(name="b")
    a.other, b.other, a.me = b, a, a
    a.v, b.v = variable("of a"), variable("of b")
    a.list = [a]
    a.list.append(a.list)
    assert names(a.variables) == ["of a", "of b"]
    assert names(b.variables) == ["of b", "of a"]
    assert a.submodules == (b,)


def test_only_trainable_variables_are_trainable():
    model = gt.Module()
    model.layers = [Dense(trainable=False), Dense()]
    assert names(model.variables) == ["bias", "weight", "bias", "weight"]
    assert names(model.trainable_variables) == ["weight", "bias", "weight"]


def test_what_is_neither_variable_nor_module_is_passed_over():
    model = gt.Module()
    model.rate, model.text, model.function, model.none = 0.5, "abc", len, None
    model.tensor, model.set = gt.constant(1.0), {1, 2}
    assert model.variables == ()
    assert model.submodules == ()


def test_attributes_set_later_and_deleted_are_seen():
    model = Dense()
    model.extra = variable("extra")
    assert names(model.variables) == ["bias", "extra", "weight"]
    del model.bias
    assert names(model.variables) == ["extra", "weight"]


def test_a_subclass_need_not_call_init():
    class Bare(gt.Module):
        def __init__(self):
            self.v = variable("v")

    assert names(Bare().variables) == ["v"]
    assert Bare().name == "bare"


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (gt.Module(), "module"),
        (Dense(), "dense"),
        (HTTPServer2Model(), "http_server2_model"),
        (Dense(name="First"), "First"),
    ],
)
def test_names(module, name):
    assert module.name == name


@pytest.mark.parametrize("name", ["", "a b", "1st", "a-b", "a/b"])
def test_names_that_are_no_identifiers_are_refused(name):
    with pytest.raises(ValueError, match="identifier"):
        gt.Module(name=name)


def test_a_tape_and_an_optimizer_take_its_variables():
    model = gt.Module()
    model.layers = [Dense(), Dense()]
    with gt.GradientTape() as tape:
        y = gt.constant([3.0])
        for layer in model.layers:
            y = layer(y)
    gradients = tape.gradient(y, model.trainable_variables)
    assert isinstance(gradients, tuple)
    assert [float(g) for g in gradients] == [2.0, 6.0, 1.0, 7.0]
    gt.optimizers.SGD(0.5).apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    assert [float(v) for v in model.variables] == [0.0, -1.0, 0.5, -1.5]


def test_a_tape_watches_a_module_by_its_variables():
    model = Dense()
    with gt.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(model.variables)
        y = model(3.0)
    assert [float(g) for g in tape.gradient(y, [model.weight, model.bias])] == [3.0, 1.0]


@pytest.mark.parametrize("copied", [lambda x: pickle.loads(pickle.dumps(x)), copy.deepcopy])
def test_copies_keep_values_names_and_what_is_shared(copied):
    model = Dense(name="kept", trainable=False)
    model.same = [model.weight]
    model.weight.assign([5.0])
    again = copied(model)
    assert again.name == "kept"
    assert names(again.variables) == ["bias", "weight"]
    assert names(again.trainable_variables) == ["weight"]
    assert again.same[0] is again.weight
    assert again.weight is not model.weight
    again.weight.assign([7.0])
    assert (float(model.weight), float(again.weight)) == (5.0, 7.0)


def test_looking_for_variables_keeps_nothing_alive():
    gc.disable()
    try:
        model = gt.Module()
        model.layers = [Dense()]
        assert len(model.variables) == 2
        gone = weakref.ref(model)
        del model
        assert gone() is None
    finally:
        gc.enable()
