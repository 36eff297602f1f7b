"""Programs in fixed point: tables of activations, formats, rewrites, and what is refused."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("llvmlite")

from fixed_reference import activate, run, to_floats
from native_graphs import HERE, Batch, Graph, clouds, native, noise

from lkdn_deploy.backends.native.fixed import rounding
from lkdn_deploy.backends.native.fixed.fixed_ir import (
    HIGHEST,
    LOWEST,
    RESULT_SCALE,
    FixedActivation,
    FixedConv,
    FixedProgram,
    FloatElementwise,
    Storage,
)
from lkdn_deploy.backends.native.fixed.measured import measure
from lkdn_deploy.backends.native.fixed.pictures import SIDE
from lkdn_deploy.backends.native.fixed.quantise import quantise
from lkdn_deploy.backends.native.fixed.residues import RESIDUES, activation_numbers, residue_table
from lkdn_deploy.backends.native.fixed.storage import Ranges
from lkdn_deploy.backends.native.frontend.importer import import_program
from lkdn_deploy.backends.native.ir import UnsupportedError

ACTIVATIONS: dict[str, Callable[[float], float]] = {
    "gelu": lambda x: x * math.erfc(-x / math.sqrt(2)) / 2,
    "silu": lambda x: x / (1 + math.exp(min(-x, 700))),
}


def fixed_program(model: bytes) -> FixedProgram:
    program = import_program(model)
    pictures = np.random.default_rng(1).integers(0, 256, (2, SIDE, SIDE, 3), np.uint8)
    return quantise(program, measure(program, pictures, HERE))


def assert_near(found: Batch, exact: Batch) -> None:
    """Compare results within the range that 16 bits have."""
    assert np.abs(found - exact.clip(LOWEST / RESULT_SCALE, HIGHEST / RESULT_SCALE)).max() < 0.01


@pytest.mark.parametrize(("kind", "error"), [("gelu", 1.5), ("silu", 2.2)])
@pytest.mark.parametrize("step", [16, 17, 100, 5000])
def test_an_activation_of_every_integer_is_near(kind: str, error: float, step: int) -> None:
    scale = RESIDUES[kind].scale(step)
    op = FixedActivation((0,), 1, kind, *activation_numbers(kind, np.array([scale])))
    every = np.arange(-32768, 32768).astype(np.int16)
    tables = type("Tables", (), {"tables": {kind: residue_table(kind)}})
    found = activate(op, tables, every[None, None])[0, 0]  # type: ignore[arg-type]
    exact = np.array([ACTIVATIONS[kind](x / scale) * scale for x in every.tolist()])
    assert np.abs(found - exact).max() < error
    assert found[32768] == 0
    assert found[-1] >= 32766


def test_a_network_with_all_that_lkdn_has_is_near_its_float32() -> None:
    graph = Graph(3)
    head = graph.depthwise(graph.convolution("lr", 8))
    gate = graph.depthwise(graph.depthwise(graph.convolution(head, 8), (5, 5)), (5, 5), 3)
    block = graph.norm(graph.convolution(graph.op("Mul", gate, graph.op("Gelu", head)), 8))
    model = graph.model(graph.larger(graph.convolution(graph.op("Add", block, head), 12, (3, 3)), 2))
    fixed = fixed_program(model)
    stored = [it.storage for it in fixed.formats]
    assert Storage.FLOAT32 in stored
    assert stored[fixed.program.result] is Storage.INT16
    image = noise(20, 30)
    result, _ = run(fixed, image)
    assert_near(to_floats(fixed, result), native(model, image))


def test_a_sum_over_many_inputs_is_split_and_keeps_its_bits() -> None:
    graph = Graph(4)
    maps = [graph.convolution("lr", 40) for _ in range(24)]
    wide = graph.convolution(graph.op("Concat", *maps, channels=960, axis=1), 8)
    model = graph.model(graph.larger(graph.convolution(wide, 12, (3, 3)), 2))
    before, fixed = import_program(model), fixed_program(model)
    convs = [op for op in fixed.ops.values() if isinstance(op, FixedConv)]
    assert len(fixed.program.ops) > len(before.ops)
    assert min(np.abs(op.weight.astype(int)).max() for op in convs) > 450
    image = noise(12, 9)
    result, _ = run(fixed, image)
    assert_near(to_floats(fixed, result), native(model, image))


def test_errors_of_weights_make_up_for_each_other_on_the_measured_pictures() -> None:
    graph = Graph(15)
    wide = graph.op("Gelu", graph.depthwise(graph.convolution("lr", 40), (5, 5)))
    model = graph.model(graph.larger(graph.convolution(wide, 12, (3, 3)), 2))
    program, image = import_program(model), clouds(SIDE, SIDE)
    measured = measure(program, [np.rint(255 * image.transpose(1, 2, 0)).clip(0, 255).astype(np.uint8)], HERE)
    exact = native(model, image)
    errors = []
    for ranges in (measured, replace(measured, moments={})):
        fixed = quantise(program, ranges)
        errors.append(float(np.square(to_floats(fixed, run(fixed, image)[0]) - exact).mean()))
    assert errors[0] < errors[1] / 2


@pytest.mark.parametrize("depthwise", [False, True])
@given(seed=st.integers(0, 1000))
def test_weights_whose_errors_make_up_for_each_other_are_whole_and_zeros_stay(depthwise: bool, seed: int) -> None:
    random = np.random.default_rng(seed)
    shape = (4, 1, 9) if depthwise else (5, 4, 3)
    groups, count, inputs = (4, 9, 4) if depthwise else (1, 12, 4)
    weight = random.normal(0, 50, shape) * (random.random(shape) > 0.2)
    read = random.normal(1, 1, (groups, count, 40)) * random.choice([0, 1, 100])
    found = rounding.compensated(read @ read.swapaxes(1, 2), np.ones(inputs))(weight)
    assert np.array_equal(found, np.rint(found))
    assert not found[weight == 0].any()
    if not read.any():
        assert np.array_equal(found, np.rint(weight))


def test_moments_that_are_singular_leave_weights_to_the_nearest_integers() -> None:
    weight = np.linspace(-9, 9, 12).reshape(6, 2, 1)
    found = rounding.compensated(np.array([[[0, 1e9], [1e9, 0]]]), np.ones(2))(weight)
    assert np.array_equal(found, np.rint(weight))


@pytest.mark.parametrize("side", [31, 33, 65])
def test_windows_larger_than_the_measured_pictures(side: int) -> None:
    graph = Graph(16)
    wide = graph.depthwise(graph.convolution("lr", 8), (side, 1), 1 + (side == 33))
    model = graph.model(graph.larger(graph.convolution(wide, 12), 2))
    measured = measure(import_program(model), [np.zeros((SIDE, SIDE, 3), np.uint8)], HERE)
    assert len(measured.moments) == 3 - (side > 31)
    quantise(import_program(model), measured)


def test_moments_take_a_limited_amount_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = Graph(16)
    model = graph.model(graph.larger(graph.convolution(graph.convolution("lr", 8, (3, 3)), 12), 2))
    monkeypatch.setattr(rounding, "_MOST_NUMBERS", 27**2)
    measured = measure(import_program(model), [np.zeros((SIDE, SIDE, 3), np.uint8)], HERE)
    assert [it.shape for it in measured.moments.values()] == [(1, 27, 27)]


def test_a_sum_of_values_of_unlike_ranges_is_in_float32() -> None:
    def sums(spread: float) -> list[FloatElementwise]:
        graph = Graph(5)
        value = graph.convolution("lr", 6)
        larger = graph.op("Mul", value, graph.constant(np.full((1, 6, 1, 1), spread, np.float32)))
        total = graph.convolution(graph.op("Add", value, larger), 12)
        fixed = fixed_program(graph.model(graph.larger(total, 2)))
        return [op for op in fixed.ops.values() if isinstance(op, FloatElementwise)]

    assert not sums(1)
    assert {op.kind for op in sums(1000)} == {"mul", "add"}


def test_a_part_of_another_engine_is_refused() -> None:
    graph = Graph(6)
    value = graph.convolution("lr", 4)
    mean = graph.op("GlobalAveragePool", value)
    model = graph.model(graph.larger(graph.convolution(graph.op("Mul", value, mean), 12), 2))
    with pytest.raises(UnsupportedError, match="ONNX Runtime executes a part"):
        quantise(import_program(model), Ranges((), ()))


def test_numbers_that_are_not_finite_are_refused() -> None:
    graph = Graph(9)
    model = graph.model(graph.larger(graph.convolution("lr", 12), 2))
    program = import_program(model)
    ranges = measure(program, [np.zeros((SIDE, SIDE, 3), np.uint8)], HERE)
    broken = replace(ranges, high=tuple(it * np.nan for it in ranges.high))
    with pytest.raises(UnsupportedError, match="not finite"):
        quantise(program, broken)
