"""Many files through one upscaler in Python: results as they come, errors as values."""

import gc
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from twice import Twice

import lkdn_deploy.runtime.mapping as module
from lkdn_deploy import Upscaler
from lkdn_deploy.core.errors import InputError, UsageError
from lkdn_deploy.imaging.files.read import read_picture
from lkdn_deploy.samples import sample_pixels


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """Four files, of which the second is damaged, and one that is not there."""
    found = [tmp_path / f"{index}.png" for index in range(5)]
    for index, path in enumerate(found[:4]):
        Image.fromarray(np.roll(sample_pixels()[:20, :30], 3 * index, axis=0)).save(path, dpi=(300, 300))
    found[1].write_bytes(found[1].read_bytes()[:200])
    return found


def test_results_come_in_order_and_errors_are_values(paths: list[Path], tmp_path: Path) -> None:
    outcomes = list(Upscaler(Twice()).map(map(str, paths)))
    assert [outcome.path for outcome in outcomes] == [str(path) for path in paths]
    assert [outcome.error is None for outcome in outcomes] == [True, False, True, True, False]
    for index in (0, 2, 3):
        expected = read_picture(paths[index]).pixels.repeat(2, axis=0).repeat(2, axis=1)
        assert np.array_equal(outcomes[index].unwrap().pixels, expected)
        assert outcomes[index].save(tmp_path / f"{index}.tif") == ()
        written = read_picture(tmp_path / f"{index}.tif")
        assert np.array_equal(written.pixels, expected)
        assert written.dpi == pytest.approx((300, 300), abs=0.1)
    for failed, said in ((outcomes[1], "1.png"), (outcomes[4], "4.png does not exist")):
        assert failed.picture is None
        for use in (failed.unwrap, lambda failed=failed: failed.save(tmp_path / "none.png")):
            with pytest.raises(InputError, match=said):
                use()
    with pytest.raises(UsageError, match=r"0\.tif exists"):
        outcomes[0].save(tmp_path / "0.tif")


def test_files_are_taken_one_ahead_and_nothing_is_kept(paths: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[Path] = []
    pictures: list[weakref.ref[np.ndarray]] = []

    def give() -> Iterator[Path]:
        for path in (paths[0], paths[2], paths[3], paths[0]):
            taken.append(path)
            yield path

    def read(path: Path) -> object:
        picture = read_picture(path)
        pictures.append(weakref.ref(picture.pixels))
        return picture

    monkeypatch.setattr(module, "read_picture", read)
    outcomes = Upscaler(Twice()).map(give())
    assert taken == []
    for count, outcome in enumerate(outcomes, 1):
        assert len(taken) <= count + 1
        del outcome
        gc.collect()
        assert sum(picture() is not None for picture in pictures) <= 2
    assert len(taken) == 4


def test_a_generator_that_is_given_up_ends(paths: list[Path]) -> None:
    outcomes = Upscaler(Twice()).map(paths)
    next(outcomes)
    outcomes.close()
    assert list(outcomes) == []


def test_a_result_that_does_not_fit_into_memory_is_an_error_of_its_file(
    paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "available_memory", lambda: 5 * 20 * 30 * 3 - 1)
    (outcome,) = Upscaler(Twice()).map(paths[:1])
    with pytest.raises(InputError, match=r"0\.png: x2 of 30x20 needs 0 MiB, 0 MiB are free"):
        outcome.unwrap()
