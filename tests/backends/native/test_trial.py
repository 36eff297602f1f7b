"""The trial of fixed point before a network's first use: networks that enlarge roundings are refused."""

import io

import numpy as np
import pytest

pytest.importorskip("llvmlite")

from native_graphs import HERE, Graph, compiled

from lkdn_deploy.backends.native.fixed import prepared, trial
from lkdn_deploy.backends.native.fixed.fixed_ir import FixedConv, FixedProgram
from lkdn_deploy.backends.native.fixed.pictures import DRAWN_SIDE, drawn_pictures
from lkdn_deploy.backends.native.frontend.importer import import_program
from lkdn_deploy.backends.native.ir import UnsupportedError


@pytest.fixture(autouse=True)
def few_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "_FEWEST", 20)
    monkeypatch.setattr(trial, "_MOST", 20)


def steady(seed: int) -> bytes:
    graph = Graph(seed)
    return graph.model(graph.larger(graph.convolution(graph.convolution("lr", 8, (3, 3)), 12), 2))


def difference_of_likes() -> bytes:
    """A network that enlarges the difference of two maps that are almost the same, and with it their roundings."""
    graph = Graph(12)
    weight = graph.random.normal(0, 0.5, (8, 3, 1, 1)).astype(np.float32)
    other = weight + graph.random.normal(0, 1e-4, weight.shape).astype(np.float32)
    maps = [graph.op("Conv", "lr", graph.constant(it), channels=8) for it in (weight, other)]
    large = graph.op("Mul", graph.op("Sub", *maps), graph.constant(np.full((1, 8, 1, 1), 3000, np.float32)))
    return graph.model(graph.larger(graph.convolution(large, 12), 2))


def opened(model: bytes) -> FixedProgram:
    return prepared.prepared(import_program(model), model, compiled(model), HERE)


def test_a_network_that_enlarges_roundings_is_refused_and_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    words = r"a network whose pixels would differ by \d+\.\d of 255 levels from FP32"
    with pytest.raises(UnsupportedError, match=words):
        opened(difference_of_likes())
    monkeypatch.setattr(prepared, "measure", lambda *_: pytest.fail("measured again"))
    with pytest.raises(UnsupportedError, match=words):
        opened(difference_of_likes())


def test_the_first_attempt_that_suffices_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    def scale_of_features() -> float:
        return max(float(it.scale[0]) for it in opened(steady(13)).formats if len(it.scale) == 8)

    first = scale_of_features()
    differences = iter([1.01 * trial.MOST_DIFFERENCE, trial.MOST_DIFFERENCE])
    monkeypatch.setattr(trial, "largest_difference", lambda *_: next(differences))
    monkeypatch.setattr(prepared, "_VERSION", b"another")
    assert scale_of_features() / first == pytest.approx(trial.ATTEMPTS[0][0] / trial.ATTEMPTS[1][0])


def test_a_network_is_prepared_once_and_again_where_the_cache_is_damaged(monkeypatch: pytest.MonkeyPatch) -> None:
    def numbers(fixed: FixedProgram) -> bytes:
        return b"".join(it.weight.tobytes() for it in fixed.ops.values() if isinstance(it, FixedConv))

    first = numbers(opened(steady(14)))
    name = max(prepared.STORE.folder.iterdir(), key=lambda path: path.stat().st_mtime_ns).name.partition(".")[0]
    content = prepared.STORE.read(name)
    assert content is not None
    calls: list[object] = []
    measure = prepared.measure
    monkeypatch.setattr(prepared, "measure", lambda *them: calls.append(None) or measure(*them))
    assert numbers(opened(steady(14))) == first
    assert not calls
    damaged = [b"", b"junk", content[:-40], content.replace(b"low", b"law"), content.replace(b"shift", b"bhift")]
    damaged.append(content + bytes(5 << 20))
    damaged.append(content.replace(b"(4,), }" + 15 * b" ", b"(%d,), }" % 10**15))  # numbers, more than memory has
    compressed = io.BytesIO()
    np.savez_compressed(compressed, **np.load(io.BytesIO(content)))
    damaged.append(compressed.getvalue())
    assert len({content, *damaged}) == len(damaged) + 1
    for count, damage in enumerate(damaged):
        prepared.STORE.write(name, damage)
        assert numbers(opened(steady(14))) == first
        assert len(calls) == count + 1


def test_pixels_that_are_not_a_number_differ_by_all_levels() -> None:
    graph = Graph(16)
    root = graph.op("Sqrt", graph.op("Sub", graph.convolution("lr", 12), graph.constant(np.float32(9))))
    exact = compiled(graph.model(graph.larger(root, 2)))
    assert trial.largest_difference(opened(steady(14)), exact, drawn_pictures(1), HERE) == 255


def test_pictures_are_the_same_each_time_and_unlike_each_other() -> None:
    pictures = [*drawn_pictures(300)]
    assert all(it.shape == (DRAWN_SIDE, DRAWN_SIDE, 3) and it.dtype == np.uint8 for it in pictures)
    assert all(np.array_equal(*pair) for pair in zip(pictures, drawn_pictures(300), strict=True))
    assert len({it.tobytes() for it in pictures}) > 200
