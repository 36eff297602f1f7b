"""Convolutions by minimal filtering: the algebra, any size and vector width, and windows that give the same bits."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("llvmlite")

from native_graphs import PROCESSORS, Graph, Run, check, clouds, compiled, dense, noise, reference

from lkdn_deploy.backends.native import winograd
from lkdn_deploy.backends.native.frontend.importer import import_program
from lkdn_deploy.backends.native.ir import ConvOp, Program
from lkdn_deploy.backends.registry import open_session
from lkdn_deploy.hub.artifacts import find_artifact
from lkdn_deploy.runtime.bundled import bundled
from lkdn_deploy.runtime.upscaler import Upscaler


def minimal(program: Program) -> list[ConvOp]:
    return [op for op in program.ops if isinstance(op, ConvOp) and op.minimal]


@given(st.integers(0, 2**32 - 1), st.integers(1, 64))
def test_a_tile_gives_what_the_taps_give(seed: int, taps: int) -> None:
    random = np.random.default_rng(seed)
    weight = random.standard_normal((taps, 3)).astype(np.float32)
    columns = random.standard_normal((taps, winograd.POSITIONS))
    points = np.array([0, winograd.FAR, -winograd.FAR, winograd.NEAR, -winograd.NEAR])
    # By transposition, the factors of the input are those of a product of polynomials with these roots.
    outputs = np.vander(points, winograd.TILE, increasing=True).T
    outputs = np.column_stack([outputs, np.eye(winograd.TILE)[-1]])
    inputs = np.zeros((winograd.POSITIONS, winograd.POSITIONS))
    for position in range(len(points)):
        inputs[position, :-1] = np.poly(np.delete(points, position))[::-1]
    inputs[-1] = np.poly(points)[::-1]
    m = (winograd.transform_weights(weight) * (columns @ inputs.T)).sum(0)
    exact = [(columns[:, it : it + 3] * weight).sum() for it in range(winograd.TILE)]
    size = np.abs(columns).max() * np.abs(weight).sum()
    np.testing.assert_allclose(outputs @ m, exact, rtol=0, atol=1e-6 * size)


@given(st.integers(0, 2**32 - 1))
def test_a_pair_of_rows_gives_what_the_taps_give(seed: int) -> None:
    random = np.random.default_rng(seed)
    weight, d = random.standard_normal((3, 3)), random.standard_normal(4)
    single, pair = (winograd.transform_weights(weight, paired=it).astype(np.float64) for it in (False, True))
    rows = np.array([d[1] + d[2], d[2] - d[1], d[0] - d[2], d[3] - d[1]])
    m = rows[:, None] * pair
    exact = [(d[it : it + 3, None] * single).sum(0) for it in range(2)]
    np.testing.assert_allclose([m[0] + m[1] + m[2], m[0] - m[1] + m[3]], exact, rtol=0, atol=1e-5)


@pytest.mark.parametrize("target", PROCESSORS)
def test_narrow_and_odd_pictures_in_all_vector_widths(target: str) -> None:
    model = dense(9)
    network = compiled(model, PROCESSORS[target])
    # One has a window of one row.
    assert [op.paired for op in minimal(network.program)] == [True, True, True, False, True]
    for width in (*range(1, 10), 33, 64, 97):
        image = noise(1 + width % 4, width)
        result = Run(network, *image.shape[1:], threads=1 + width % 2)(image)
        np.testing.assert_allclose(result, reference(model, image), rtol=0, atol=1e-5)


def test_a_sum_with_a_value_of_the_same_stage_that_is_kept_for_later() -> None:
    """The second of two rows that are computed at once does not exist yet of another value of the stage."""
    graph = Graph()
    head = graph.convolution("lr", 12, (3, 3))
    first = graph.depthwise(graph.depthwise(head))
    last = graph.op("Add", graph.op("Relu", graph.convolution(head, 12, (3, 3))), first)
    for _ in range(11):
        last = graph.op("LeakyRelu", graph.convolution(last, 12, (3, 3)), alpha=0.1)
    model = graph.model(graph.convolution(graph.op("Add", last, first), 3))
    assert len(compiled(model).plan.segments) > 1
    check(model, noise(41, 50), threads=3)


@pytest.mark.long
@settings(max_examples=15)
@given(
    st.integers(8, 40), st.integers(0, 999), st.integers(1, 40), st.integers(1, 140), st.sampled_from(list(PROCESSORS))
)
def test_any_number_of_channels_and_any_size(channels: int, seed: int, height: int, width: int, target: str) -> None:
    check(dense(channels, seed), noise(height, width), PROCESSORS[target], atol=5e-5, rtol=1e-5)


@pytest.mark.parametrize("target", PROCESSORS)
def test_windows_that_begin_at_tiles_give_the_bits_of_the_whole_image(target: str) -> None:
    network = compiled(dense(8), PROCESSORS[target])
    halo = network.window_halo
    assert (network.window_step, halo) == (4, 12)  # of a radius of 6
    image = noise(20, 141)
    whole = Run(network, 20, 141, threads=2)(image)
    for left, right in ((0, 41), (16, 141), (32, 71), (60, 87), (96, 124)):
        part = Run(network, 20, right - left)(image[:, :, left:right])
        low, high = left and left + halo, right if right == 141 else right - halo
        same = np.s_[:, :, 2 * (low - left) : 2 * (high - left)]
        assert np.array_equal(part[same], whole[:, :, 2 * low : 2 * high])
    image = noise(47, 36)
    whole = Run(network, 47, 36, threads=2)(image)
    for top, bottom in ((0, 21), (4, 47), (12, 39), (8, 30)):
        part = Run(network, bottom - top, 36, threads=3)(image[:, top:bottom])
        low, high = top and top + 6, bottom if bottom == 47 else bottom - 6  # the receptive radius is enough for rows
        assert np.array_equal(part[:, 2 * (low - top) : 2 * (high - top)], whole[:, 2 * low : 2 * high])


def test_nan_stays_within_the_halo() -> None:
    image = noise(22, 60)
    image[1, 11, 30] = np.nan
    network = compiled(dense(8))
    wrong = np.isnan(Run(network, 22, 60)(image)).any(0)
    rows, columns = (wrong.any(axis).nonzero()[0] // 2 for axis in (1, 0))
    assert (rows.min(), rows.max()) == (11 - 6, 11 + 6)
    assert 30 - network.window_halo <= columns.min() <= 30 - 6 < 30 + 6 <= columns.max() <= 30 + network.window_halo


@pytest.mark.parametrize("size", [(40, 131), (70, 60)])
def test_tiles_give_the_bits_of_the_whole_picture(size: tuple[int, int], tmp_path: Path) -> None:
    import onnx

    model = onnx.load_from_string(dense(8))
    artifact = onnx.load(bundled()["lkdn-s", 2])
    for prop in artifact.metadata_props:
        value = "6" if prop.key.endswith("receptive_radius") else prop.value
        onnx.helper.set_model_props(model, {it.key: it.value for it in model.metadata_props} | {prop.key: value})
    onnx.save(model, tmp_path / "a.onnx")
    session = open_session(tmp_path / "a.onnx", "native", threads=1)
    batch = clouds(*size).transpose(1, 2, 0)
    picture = np.rint(np.clip(batch, 0, 1) * 65535).astype(np.uint16)
    whole = Upscaler(session).upscale(picture)
    tiled = Upscaler(session, tile=13).upscale(picture)
    assert (whole.tiles, whole.exact, tiled.exact) == (1, True, True)
    assert tiled.tiles > 6
    assert np.array_equal(whole.pixels, tiled.pixels)


def test_networks_that_would_gain_little_and_those_of_one_size_remain_as_they_are() -> None:
    for path in bundled().values():
        program = import_program(path.read_bytes())
        assert winograd.with_minimal_filtering(program) is program
    assert not minimal(compiled(dense(7)).program)
    program = import_program(dense(8))
    assert minimal(winograd.with_minimal_filtering(program))
    wide = winograd.with_minimal_filtering(import_program(dense(winograd.MOST_PAIRED - 2)))
    assert [op.paired for op in minimal(wide)] == [True, False, True, False, True]  # one has three outputs more
    fixed = replace(program, fixed_size=(20, 30))
    assert winograd.with_minimal_filtering(fixed) is fixed


@pytest.mark.long
@pytest.mark.parametrize(
    "name",
    [
        "SPAN/spanx4_ch48.safetensors",
        "NTIRE2025/team58_TSSR.pth",
        "NTIRE2025/team25_RepRLFN.pth",
        "Compact/realesr-animevideov3-x4.safetensors",
        "ETDS/ETDS_M7C48_x4.pth",
        "ETDS/ABPN_M6C40_x4.pth",
        "ETDS/ESPCN_x4.pth",
    ],
)
def test_published_networks_agree_with_onnx_runtime(name: str, data: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(find_artifact(weights=data / "weights" / name).data)
    session, other = open_session(path, "native"), open_session(path, "ort-cpu")
    least = session.metadata.smallest
    for size in ((61, 83), (max(least, 9), max(least, 11)), (least, least)):
        batch = clouds(*size)[None]
        expected = other.run(batch)
        scale = max(1, float(np.abs(expected).max()))
        np.testing.assert_allclose(session.run(batch), expected, rtol=0, atol=1e-5 * scale)
