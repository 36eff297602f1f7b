"""The trial of fixed point before a network's first use: networks that enlarge roundings are refused."""

import numpy as np
import pytest

pytest.importorskip("llvmlite")

from native_graphs import HERE, Graph, compiled

from lkdn_deploy.backends.native.fixed import trial
from lkdn_deploy.backends.native.fixed.fixed_ir import FixedProgram
from lkdn_deploy.backends.native.fixed.measured import measure
from lkdn_deploy.backends.native.fixed.pictures import SIDE, drawn_pictures, shipped_pictures
from lkdn_deploy.backends.native.frontend.importer import import_program
from lkdn_deploy.backends.native.ir import UnsupportedError


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


def tried(model: bytes) -> FixedProgram:
    program = import_program(model)
    return trial.tried(program, measure(program, shipped_pictures(), HERE), model, compiled(model), HERE)


def test_a_network_that_enlarges_roundings_is_refused_and_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    words = r"a network whose pixels would differ by up to \d+ of 255 levels from FP32"
    with pytest.raises(UnsupportedError, match=words):
        tried(difference_of_likes())
    monkeypatch.setattr(trial, "_trial", lambda *_: pytest.fail("tried again"))
    with pytest.raises(UnsupportedError, match=words):
        tried(difference_of_likes())


def test_the_first_margin_that_suffices_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    def scale_of_features() -> float:
        fixed = tried(steady(13))
        return max(float(it.scale[0]) for it in fixed.formats if len(it.scale) == 8)

    first = scale_of_features()
    differences = iter([trial.MOST_LEVELS + 1, trial.MOST_LEVELS])
    monkeypatch.setattr(trial, "largest_difference", lambda *_: next(differences))
    monkeypatch.setattr(trial, "_VERSION", b"another")
    assert scale_of_features() / first == pytest.approx(trial.MARGINS[0] / trial.MARGINS[1])


@pytest.mark.parametrize(
    "damage", [b"", b"junk", b"[]", b'{"margin": 9.0, "levels": 0}', b'{"margin": 2.0, "levels": -1}']
)
def test_damaged_results_in_the_cache_are_not_used(damage: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "_trial", lambda *_: trial.Trial(trial.MARGINS[0], 0))
    tried(steady(14))
    name = max(trial.STORE.folder.iterdir(), key=lambda path: path.stat().st_mtime_ns).name.partition(".")[0]
    trial.STORE.write(name, damage)
    calls: list[object] = []
    monkeypatch.setattr(trial, "_trial", lambda *_: calls.append(None) or trial.Trial(trial.MARGINS[0], 0))
    tried(steady(14))
    tried(steady(14))
    assert len(calls) == 1


def test_pictures_are_the_same_each_time_and_unlike_each_other() -> None:
    pictures = [*drawn_pictures()]
    assert all(it.shape == (SIDE, SIDE, 3) and it.dtype == np.uint8 for it in pictures)
    assert all(np.array_equal(*pair) for pair in zip(pictures, drawn_pictures(), strict=True))
    assert len({it.tobytes() for it in pictures}) > 50
