"""Compiled code of fixed-point programs against NumPy, bit for bit, for every set of instructions at hand."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("llvmlite")

from fixed_reference import run, to_floats, to_pixels
from native_graphs import HERE, PROCESSORS, Graph, Run, noise, of_all_kinds
from random_networks import RANDOM_OPS, random_model

from lkdn_deploy.backends.native.compile import CompiledNetwork
from lkdn_deploy.backends.native.fixed.fixed_ir import FixedProgram
from lkdn_deploy.backends.native.fixed.measured import measure
from lkdn_deploy.backends.native.fixed.pictures import SIDE
from lkdn_deploy.backends.native.fixed.quantise import quantise
from lkdn_deploy.backends.native.frontend.importer import import_program
from lkdn_deploy.jit.compiler import Processor

WITHOUT_VNNI = HERE.features.replace("+avx512vnni", "-avx512vnni").replace("+avxvnni", "-avxvnni")
TARGETS = {
    **PROCESSORS,
    **{f"{name}, multiplied and added": replace(it, features=WITHOUT_VNNI) for name, it in PROCESSORS.items()},
}
"""Three widths of vectors, with and without instructions that add to a sum."""

FIXED_OPS = [name for name in RANDOM_OPS if name not in ("unit", "several")]


def fixed_program(model: bytes) -> FixedProgram:
    seed = int.from_bytes(hashlib.sha256(model).digest()[:4], "big")
    picture = np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    program = import_program(model)
    return quantise(program, measure(program, [picture], HERE))


def check_fixed(fixed: FixedProgram, height: int, width: int, target: Processor, threads: int = 1) -> None:
    image = noise(height, width)
    network = CompiledNetwork(fixed.program, target, fixed)
    executor = Run(network, height, width, threads)
    expected, extremes = run(fixed, image)
    pixels = np.zeros((height * network.scale, width * network.scale, 3), np.uint8)
    executor.write(image, np.s_[:, :], pixels)
    np.testing.assert_array_equal(pixels, to_pixels(fixed, expected))
    np.testing.assert_array_equal(executor.extremes(), extremes)
    np.testing.assert_array_equal(executor(image), to_floats(fixed, expected))


@pytest.mark.parametrize(
    "target", ["this", pytest.param("8 lanes, multiplied and added", marks=pytest.mark.long), "4 lanes"]
)
def test_every_operator_in_fixed_point(target: str) -> None:
    graph = Graph()
    fixed = fixed_program(graph.model(of_all_kinds(graph)))
    for height, width in ((1, 1), (5, 40), (23, 18)):
        check_fixed(fixed, height, width, TARGETS[target])


@pytest.mark.parametrize(("side", "distance"), [(5, 2), (5, 3), (9, 2), (3, 2)])
def test_dilated_convolutions_in_bands_of_any_height(side: int, distance: int) -> None:
    graph = Graph()
    near = graph.depthwise(graph.depthwise(graph.convolution("lr", 3)), (side, side), distance)
    far = graph.depthwise(graph.convolution(near, 3), (side, side), distance)
    fixed = fixed_program(graph.model(graph.op("Add", far, "lr")))
    for height, threads in ((1, 1), (2 * distance, 2), (21, 3), (26, 1)):
        check_fixed(fixed, height, 9, TARGETS["8 lanes"], threads)


DRAWN = (
    st.lists(st.tuples(st.sampled_from(FIXED_OPS), st.integers(0, 1000)), min_size=1, max_size=10),
    st.integers(1, 25),
    st.integers(1, 70),
    st.sampled_from(list(TARGETS)),
    st.integers(1, 3),
)


def check_random(choices: list[tuple[str, int]], height: int, width: int, target: str, threads: int) -> None:
    check_fixed(fixed_program(random_model(choices, height)), height, width, TARGETS[target], threads)


@settings(max_examples=3, deadline=None)
@given(*DRAWN)
def test_random_networks_in_fixed_point(
    choices: list[tuple[str, int]], height: int, width: int, target: str, threads: int
) -> None:
    check_random(choices, height, width, target, threads)


@pytest.mark.long
@settings(max_examples=100, deadline=None)
@given(*DRAWN)
def test_many_random_networks_in_fixed_point(
    choices: list[tuple[str, int]], height: int, width: int, target: str, threads: int
) -> None:
    check_random(choices, height, width, target, threads)
