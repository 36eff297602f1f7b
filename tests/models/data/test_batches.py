"""Batches that other processes prepare."""

import os
import pickle
import shutil
import signal
from contextlib import closing
from types import SimpleNamespace

import psutil
import pytest
import torch

from lkdn_deploy.core.errors import LkdnError, UsageError
from lkdn_models.data import CropSettings, CropSource, batches, decoded, workers

pytestmark = [
    # More processes than cores, and processes made by fork, are meant here.
    pytest.mark.filterwarnings("ignore:.*suggested max number of worker:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning"),
]


@pytest.fixture
def source(tmp_path, write, photos_of):
    for number in range(3):
        write(tmp_path / f"{number}.png", 40, 50, seed=number)
    photos = photos_of(tmp_path, max_sides=(50, 25)).training
    return CropSource(photos, 2, CropSettings(patch=8, batch=6, candidates=2), seed=1)


def children():
    return psutil.Process().children(recursive=True)


def test_batches_are_the_same_whoever_prepares_them(source):
    expected = [source.batch(index, 1, 2) for index in range(3, 11)]
    for count in (0, 1, 3):
        found = list(batches(source, 3, 11, 1, 2, count))
        assert len(found) == len(expected)
        for mine, theirs in zip(found, expected, strict=True):
            assert all(torch.equal(a, b) and a.stride() == b.stride() for a, b in zip(mine, theirs, strict=True))
    assert children() == []


@pytest.mark.parametrize("count", [0, 2])
def test_a_run_that_is_over_gets_no_batch(source, count):
    assert list(batches(source, 5, 5, workers=count)) == []


def test_processes_end_with_the_iterator_and_before_that_ignore_an_interrupt(source):
    with closing(batches(source, 0, 1000, workers=2)) as stream:
        next(stream)
        started = children()
        assert len(started) == 2
        for process in started:
            process.send_signal(signal.SIGINT)
        for index in range(1, 10):
            assert torch.equal(next(stream)[0], source.batch(index)[0])
        assert children() == started
    assert children() == []


@pytest.mark.skipif(not hasattr(os, "setpgid"), reason="no process groups here")
def test_what_is_sent_to_the_callers_group_spares_the_processes_but_the_caller_can_still_end_them(source):
    seen = []
    before = signal.signal(signal.SIGTERM, lambda *facts: seen.append(facts))  # they start with a copy of it
    try:
        with closing(batches(source, 0, 1000, workers=2)) as stream:
            next(stream), next(stream)  # one of each process: so both have set their signals up
            started = children()
            assert os.getpgrp() not in {os.getpgid(process.pid) for process in started}
            for process in started:
                process.terminate()  # as PyTorch ends one that hangs
            assert psutil.wait_procs(started, timeout=30)[1] == []
    finally:
        signal.signal(signal.SIGTERM, before)
    assert seen == []


def test_the_callers_signals_and_random_numbers_stay_as_they_are(source):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGCHLD)], torch.get_rng_state()
    with closing(batches(source, 0, 5, workers=1)) as stream:
        next(stream)
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGCHLD)] == before[0]
        assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == set()
        assert torch.equal(torch.get_rng_state(), before[1])


def test_a_process_that_is_killed_ends_the_batches_with_an_error(source):
    with closing(batches(source, 0, 10**6, workers=1)) as stream:
        next(stream)
        os.kill(children()[0].pid, signal.SIGKILL)
        with pytest.raises(LkdnError, match="process that prepares batches has ended"):
            list(stream)


def test_too_little_shared_memory_is_told_beforehand(source, tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "SHARED_MEMORY", tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10_000))
    with pytest.raises(UsageError, match=r"2 processes need .* shared memory") as refused:
        next(batches(source, 0, 1, workers=2))
    assert "--shm-size" in refused.value.hint
    next(batches(source, 0, 1, part=5, parts=6, workers=1))  # a sixth of it fits


def test_a_source_sent_to_another_process_takes_no_pixels_along(source, cache):
    sent = pickle.dumps(source)
    assert len(sent) < 3000
    assert torch.equal(pickle.loads(sent).batch(4)[1], source.batch(4)[1])  # noqa: S301
    decoded._mapped.cache_clear()  # as it is in another process
    for path in cache.iterdir():
        path.unlink()
    with pytest.raises(LkdnError, match="cannot be read") as refused:
        pickle.loads(sent).batch(4)  # noqa: S301
    assert "start again" in refused.value.hint
