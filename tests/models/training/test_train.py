"""The training loop on a folder of small made-up photographs, through the command and the Python function."""

import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
import warnings
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lkdn_deploy.cli._shell import run as run_command
from lkdn_deploy.cli.train import command
from lkdn_deploy.core.errors import InputError, LkdnError, UsageError
from lkdn_models.checkpoint import load_checkpoint
from lkdn_models.training.learner import Learner
from lkdn_models.training.recipe import Loss, Optimiser, find_recipe, read_recipe
from lkdn_models.training.runs import RunFolder
from lkdn_models.training.train import Places, train

TINY = find_recipe("tiny")


def tiny(iterations, log_every=1, **changes):
    """The recipe, without the final fall of the rate, which would depend on the number of iterations."""
    recipe = read_recipe(TINY)
    optimisation = replace(recipe.optimisation, iterations=iterations, **{"tail": 0.0, **changes})
    return replace(recipe, log_every=log_every, optimisation=optimisation)


def places(photos, out, **others):
    return Places([photos], out, **others)


def losses(run):
    return [entry["loss"] for entry in RunFolder(run).read_log() if "loss" in entry]


def validations(run):
    return {entry["step"]: entry["validation"] for entry in RunFolder(run).read_log() if "validation" in entry}


def states(run):
    return sorted(path.name for path in (run / "states").iterdir())


def start(*arguments, processes=0, **options):
    launcher = ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m"] if processes else []
    words = [sys.executable, "-m", *launcher, "lkdn_models.training", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    return subprocess.Popen(words, env=environment, stdout=pipe, stderr=pipe, text=True, **options)


def run(*arguments, processes=0):
    process = start(*arguments, processes=processes)
    out, err = process.communicate()
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def assert_same_weights(one, other):
    mine, theirs = load_checkpoint(one).state, load_checkpoint(other).state
    assert mine.keys() == theirs.keys()
    for name, value in mine.items():
        assert torch.equal(value, theirs[name]), name


def recipe_file(folder, **changes):
    text = TINY.read_text()
    for name, value in changes.items():
        text = re.sub(rf"^{name} = .*$", f"{name} = {value}", text, flags=re.MULTILINE)
    path = folder / "recipe.toml"
    path.write_text(text)
    return path


@contextmanager
def disk_full_after(size):
    """Files cannot grow beyond ``size`` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.long
def test_the_tiny_recipe_beats_bicubic_on_a_photograph_it_has_not_seen(photos, tmp_path):
    done = run("tiny", "--data", photos, "--output", tmp_path / "run", "--threads", 1)
    assert done.returncode == 0, done.stderr
    weights = Path(done.stdout.strip())
    assert load_checkpoint(weights).spec == read_recipe(TINY).network
    log = RunFolder(tmp_path / "run").read_log()
    steps = read_recipe(TINY).optimisation.iterations
    assert [entry["step"] for entry in log if "loss" in entry] == list(range(50, steps + 1, 50))
    assert log[0]["data"]["images"] == 5
    bicubic, reached = log[0]["bicubic"]["held-out"], validations(tmp_path / "run")[steps]["held-out"]
    assert reached["psnr_y"] > bicubic["psnr_y"]
    assert reached["ssim_y"] > bicubic["ssim_y"]


@pytest.mark.parametrize("number", [pytest.param(signal.SIGTERM, marks=pytest.mark.long), signal.SIGINT])
def test_a_run_stopped_by_a_signal_and_resumed_is_bit_identical(photos, tmp_path, number):
    recipe = recipe_file(tmp_path, log_every=1, iterations=60)
    words = (recipe, "--data", photos, "--output", tmp_path / "cut", "--workers", int(number == signal.SIGINT))
    # A session of its own, so that Ctrl-C reaches the workers too, as it does from a terminal, but not us.
    with start(*words, start_new_session=True) as process:
        limit = time.monotonic() + 240
        log = tmp_path / "cut" / "log.jsonl"
        while not (log.exists() and '"loss": 0.' in log.read_text()) and time.monotonic() < limit:
            time.sleep(0.005)
        os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
        output = process.communicate(timeout=60)[1]
    assert process.returncode == 130, output
    assert "--resume" in output
    assert "Traceback" not in output
    assert 0 < RunFolder(tmp_path / "cut").newest()["step"] < 60
    resumed = train(read_recipe(recipe), places(photos, tmp_path / "cut"), resume=True)
    whole = train(read_recipe(recipe), places(photos, tmp_path / "whole"))
    assert_same_weights(resumed, whole)
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")


@pytest.mark.long
def test_two_processes_learn_what_one_does(photos, tmp_path):
    recipe = recipe_file(tmp_path, log_every=1, iterations=6)
    done = run(recipe, "--data", photos, "--output", tmp_path / "two", processes=2)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [str(tmp_path / "two" / "weights.safetensors")]
    one = load_checkpoint(train(read_recipe(recipe), places(photos, tmp_path / "one"))).state
    for name, value in load_checkpoint(tmp_path / "two" / "weights.safetensors").state.items():
        torch.testing.assert_close(value, one[name], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(losses(tmp_path / "two"), losses(tmp_path / "one"), rtol=0, atol=1e-5)


def test_processes_that_cannot_share_a_batch_say_so(photos, tmp_path):
    done = run(recipe_file(tmp_path, batch=9), "--data", photos, "--output", tmp_path / "run", processes=2)
    assert done.returncode != 0
    assert "a batch of 9 cannot be shared by 2 processes" in done.stderr


def test_worker_processes_change_nothing(photos, tmp_path):
    plain = train(tiny(4), places(photos, tmp_path / "plain"))
    assert_same_weights(plain, train(tiny(4), places(photos, tmp_path / "workers"), workers=2))


def test_a_run_may_be_resumed_with_another_number_of_iterations(photos, tmp_path):
    train(tiny(4, log_every=4), places(photos, tmp_path))
    train(tiny(6, log_every=4), places(photos, tmp_path), resume=True)
    log = RunFolder(tmp_path).read_log()
    assert [entry["step"] for entry in log if "loss" in entry] == [4, 6]
    assert not any("iterations_before" in entry for entry in log)
    with pytest.raises(UsageError, match="already at step 6"):
        train(tiny(4, log_every=4), places(photos, tmp_path), resume=True)


def test_a_resumed_run_whose_learning_rate_follows_another_schedule_says_so(photos, tmp_path):
    train(tiny(4, tail=0.5), places(photos, tmp_path))
    with pytest.warns(UserWarning, match=r"had 4 iterations and now has 6: .* the last 50% .* from step 4 on"):
        train(tiny(6, tail=0.5), places(photos, tmp_path), resume=True)
    (entry,) = (entry for entry in RunFolder(tmp_path).read_log() if "iterations_before" in entry)
    assert (entry["step"], entry["iterations_before"], entry["iterations"]) == (4, 4, 6)


def test_decoding_without_a_terminal_is_reported_now_and_then(photos, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("lkdn_models.training.train.REPORT_EVERY", 0.0)
    train(tiny(1), places(photos, tmp_path / "run", cache=tmp_path / "cache"))
    printed = capsys.readouterr()
    assert printed.out == ""
    *decoded, trained = printed.err.splitlines()
    numbers = [int(re.fullmatch(r"decoded (\d) of 6 photographs", line)[1]) for line in decoded]
    assert numbers[0] >= 1
    assert numbers == sorted(set(numbers))  # several may be ready at once
    assert "rate" in trained


def test_run_folders_are_not_mixed_up(photos, tmp_path):
    with pytest.raises(UsageError, match="no run"):
        train(tiny(1), places(photos, tmp_path), resume=True)
    train(tiny(1), places(photos, tmp_path))
    with pytest.raises(UsageError, match="already holds a run"):
        train(tiny(1), places(photos, tmp_path))
    with pytest.raises(UsageError, match="another recipe"):
        train(tiny(2, learning_rate=1e-4), places(photos, tmp_path), resume=True)


def test_the_last_states_and_the_best_weights_are_kept(photos, tmp_path):
    recipe = replace(tiny(8), save_every=2, keep=2, validate_every=4)
    train(recipe, places(photos, tmp_path))
    assert states(tmp_path) == ["000000006.pt", "000000008.pt"]
    reached = {step: sets["held-out"]["psnr_y"] for step, sets in validations(tmp_path).items()}
    assert list(reached) == [4, 8]
    assert RunFolder(tmp_path).newest()["best"] == {"held-out": max(reached.values())}
    assert load_checkpoint(tmp_path / "best.safetensors").step == 8
    assert reached[8] > reached[4]
    assert_same_weights(tmp_path / "best.safetensors", tmp_path / "weights.safetensors")
    sample = np.asarray(Image.open(next((tmp_path / "samples").glob("held-out_*_000000008.png"))))
    assert sample.shape[0] == 96
    assert sample.shape[1] > 3 * 96


def test_a_run_that_is_older_than_a_setting_is_resumed_with_its_default(photos, tmp_path):
    train(tiny(2), places(photos, tmp_path))
    run = RunFolder(tmp_path)
    state = run.newest()
    del state["recipe"]["data"]["hard"], state["recipe"]["distillation"]
    run.save(2, state, keep=1)
    train(tiny(3), places(photos, tmp_path), resume=True)
    assert run.newest()["step"] == 3
    run.save(3, {**state, "recipe": {**state["recipe"], "colour": "red"}}, keep=1)
    with pytest.raises(UsageError, match="which this version does not know: unknown key colour"):
        train(tiny(3), places(photos, tmp_path), resume=True)


def test_a_best_that_is_not_beaten_stays(photos, tmp_path):
    recipe = replace(tiny(4), validate_every=2)
    train(recipe, places(photos, tmp_path / "one"))
    folder = tmp_path / "one"
    state = RunFolder(folder).newest()
    RunFolder(folder).save(4, {**state, "best": {"held-out": 99.0}}, keep=1)
    before = (folder / "best.safetensors").read_bytes()
    train(replace(tiny(6), validate_every=2), places(photos, folder), resume=True)
    assert (folder / "best.safetensors").read_bytes() == before
    assert (folder / "weights.safetensors").read_bytes() != before


def test_a_damaged_state_is_named_and_the_one_before_is_taken(photos, tmp_path):
    recipe = replace(tiny(6), save_every=2)
    whole = train(recipe, places(photos, tmp_path / "whole"))
    train(recipe, places(photos, tmp_path / "cut"))
    (tmp_path / "cut" / "states" / "000000006.pt").write_bytes(b"damaged")
    with (tmp_path / "cut" / "log.jsonl").open("a") as log:
        log.write('{"step": 7, "lo')  # as if the machine had stopped while it was written
    with pytest.warns(UserWarning, match=r"000000006\.pt: not a PyTorch checkpoint"):
        resumed = train(recipe, places(photos, tmp_path / "cut"), resume=True)
    assert_same_weights(resumed, whole)
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")
    for path in (tmp_path / "cut" / "states").iterdir():
        path.write_bytes(b"damaged")
    with (
        pytest.warns(UserWarning, match="not a PyTorch checkpoint"),
        pytest.raises(InputError, match=r"no state in .* can be read"),
    ):
        train(recipe, places(photos, tmp_path / "cut"), resume=True)


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state["recipe"].update(more=state["recipe"]),
        lambda state: state["recipe"].pop("optimisation"),
        lambda state: state.update(step=-1),
        lambda state: state.update(best={"set": "high"}),
        lambda state: state.update(weights=[1]),
        lambda state: state.update(data=None),
    ],
)
def test_a_state_that_cannot_be_is_named(photos, tmp_path, change):
    train(tiny(1), places(photos, tmp_path))
    run = RunFolder(tmp_path)
    state = run.newest()
    change(state)
    run.save(1, state, keep=1)
    with pytest.warns(UserWarning, match=r"000000001\.pt is not a state of a training run"), pytest.raises(InputError):
        run.newest()


def test_a_state_of_another_optimiser_is_refused(photos, tmp_path):
    train(tiny(1), places(photos, tmp_path))
    run = RunFolder(tmp_path)
    run.save(1, {**run.newest(), "optimiser": {"state": {}, "param_groups": []}}, keep=1)
    with pytest.raises(InputError, match="state of the optimiser does not fit"):
        train(tiny(2), places(photos, tmp_path), resume=True)


def test_a_full_disk_ends_the_run_and_leaves_the_last_state_whole(photos, tmp_path):
    train(replace(tiny(2), keep=1), places(photos, tmp_path))
    size = (tmp_path / "states" / "000000002.pt").stat().st_size
    with (
        disk_full_after(size // 2),
        pytest.raises(InputError, match=r"000000004\.pt cannot be written: File too large"),
    ):
        train(replace(tiny(4), keep=1), places(photos, tmp_path), resume=True)
    assert states(tmp_path) == ["000000002.pt"]
    resumed = train(replace(tiny(4), keep=1), places(photos, tmp_path), resume=True)
    assert_same_weights(resumed, train(tiny(4), places(photos, tmp_path / "whole")))


def test_a_loss_that_is_not_finite_ends_the_run_naming_step_rate_and_pictures(photos, tmp_path):
    train(tiny(2), places(photos, tmp_path))
    state = RunFolder(tmp_path).newest()
    state["weights"]["c1.bias"][0] = float("inf")
    RunFolder(tmp_path).save(2, state, keep=1)
    with pytest.raises(
        LkdnError, match=r"the loss is (nan|inf) at step 2, learning rate 0\.00\d+, on .*\.png"
    ) as caught:
        train(tiny(3), places(photos, tmp_path), resume=True)
    assert "learning_rate" in caught.value.hint


def test_a_gradient_that_is_not_finite_changes_no_weights(photos, tmp_path, monkeypatch):
    differentiate = Learner.differentiate
    calls = []

    def poisoned(self, low, high):
        loss = differentiate(self, low, high)
        calls.append(loss)
        if len(calls) == 4:
            self.weights["c1.bias"].grad[0] = float("nan")
        return loss

    monkeypatch.setattr(Learner, "differentiate", poisoned)
    with pytest.raises(LkdnError, match=r"the gradient's norm is nan at step 3, .*\.png"):
        train(replace(tiny(6), save_every=2), places(photos, tmp_path / "cut"))
    monkeypatch.undo()
    assert states(tmp_path / "cut") == ["000000000.pt", "000000002.pt"]
    resumed = train(replace(tiny(6), save_every=2), places(photos, tmp_path / "cut"), resume=True)
    assert_same_weights(resumed, train(tiny(6), places(photos, tmp_path / "whole")))


@pytest.mark.parametrize("changes", [{"optimiser": Optimiser.ADAM}, {"bf16": True}])
def test_other_ways_to_learn_resume_bit_identically_too(photos, tmp_path, changes):
    train(tiny(3, **changes), places(photos, tmp_path / "cut"))
    resumed = train(tiny(6, **changes), places(photos, tmp_path / "cut"), resume=True, workers=1)
    assert_same_weights(resumed, train(tiny(6, **changes), places(photos, tmp_path / "whole")))


def test_a_run_does_not_go_on_with_other_photographs_or_given_weights(photos, tmp_path, saved):
    weights = train(tiny(1), places(photos, tmp_path / "run"))
    other = saved(tmp_path / "other", 50, 51, 52)
    with pytest.raises(UsageError, match="trained on other photographs"):
        train(tiny(2), places(other, tmp_path / "run"), resume=True)
    with pytest.raises(UsageError, match="a resumed run starts from its own weights"):
        train(tiny(2), places(photos, tmp_path / "run", init=weights), resume=True)


def test_the_best_on_one_set_is_not_compared_with_another(photos, tmp_path, pictures):
    train(tiny(2), places(photos, tmp_path / "run"))
    state = RunFolder(tmp_path / "run").newest()
    RunFolder(tmp_path / "run").save(2, {**state, "best": {"held-out": 99.0}}, keep=1)
    train(tiny(4), places(photos, tmp_path / "run", val=[pictures]), resume=True)
    assert list(RunFolder(tmp_path / "run").newest()["best"]) == ["Pictures"]
    assert load_checkpoint(tmp_path / "run" / "best.safetensors").step == 4


def test_one_corrupt_picture_among_good_ones_is_named_and_left_out(photos, tmp_path, saved):
    folder = saved(tmp_path / "photos", 0, 1, 2)
    (folder / "bad.png").write_bytes((folder / "0.png").read_bytes()[:300])
    done = run("tiny", "--data", folder, "--output", tmp_path / "run", "--iterations", 1)
    assert done.returncode == 0, done.stderr
    assert re.search(r"warning: .*bad\.png", done.stderr)
    assert RunFolder(tmp_path / "run").read_log()[0]["data"]["images"] == 2


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("tiny", "--data", "{empty}"), 1, "holds no image"),
        (("tiny", "--data", "{empty}/nowhere"), 1, "cannot be read"),
        (("no_such_recipe", "--data", "{photos}"), 2, "no recipe is called no_such_recipe"),
        (("{empty}/missing.toml", "--data", "{photos}"), 1, "cannot be read"),
        (("tiny", "--data", "{photos}", "--iterations", "0"), 2, "iterations must be"),
        (
            ("tiny", "--data", "{photos}", "--init", "{weights}/LKDN/LKDN_x4.pth"),
            1,
            "does not fit the recipe's network",
        ),
        (("tiny", "--data", "{photos}", "--init", "{photos}/0.png"), 1, "not a PyTorch checkpoint"),
        (("tiny", "--data", "{photos}", "--val", "{empty}"), 1, "holds no image"),
        (("tiny", "--data", "{photos}", "--val", "{photos}", "--val", "{photos}"), 2, "two validation sets are called"),
        (("tiny", "--data", "{photos}", "--resume"), 2, "holds no run"),
        (("tiny",), 2, "Missing option '--data'"),
    ],
)
def test_bad_input_is_one_clear_error(photos, data, tmp_path, capsys, arguments, code, message):
    (tmp_path / "empty").mkdir()
    named = {"empty": tmp_path / "empty", "photos": photos, "weights": data / "weights"}
    words = [word.format(**named) for word in arguments]
    assert run_command(command, [*words, "--output", str(tmp_path / "run")]) == code
    assert message in capsys.readouterr().err


def test_a_run_from_given_weights_starts_where_they_are(photos, tmp_path):
    first = train(tiny(40, log_every=10), places(photos, tmp_path / "first"))
    train(tiny(10, log_every=10, learning_rate=1e-4), places(photos, tmp_path / "second", init=first))
    assert losses(tmp_path / "second")[0] < losses(tmp_path / "first")[0] / 2


@pytest.mark.parametrize(
    "changes",
    [{"optimiser": Optimiser.ADAM}, {"loss": Loss.L2}, {"loss": Loss.MIXED}, {"bf16": True}, {"milestones": (5, 10)}],
)
def test_other_ways_to_learn_learn_too(photos, tmp_path, changes):
    train(tiny(40, log_every=10, **changes), places(photos, tmp_path))
    assert losses(tmp_path)[-1] < losses(tmp_path)[0] / 2


def test_bfloat16_is_near_but_not_the_same(photos, tmp_path):
    train(tiny(2), places(photos, tmp_path / "whole"))
    train(tiny(2, bf16=True), places(photos, tmp_path / "half"))
    one, other = losses(tmp_path / "whole"), losses(tmp_path / "half")
    assert one != other
    np.testing.assert_allclose(one, other, rtol=0.02)


def test_tensorboard_shows_the_log(photos, tmp_path):
    train(replace(tiny(4), validate_every=2), places(photos, tmp_path))
    measured = validations(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    shown = {event.step: event.value for event in events.Scalars("loss")}
    np.testing.assert_allclose([shown[step] for step in (1, 2, 3, 4)], losses(tmp_path), rtol=1e-6)
    reached = {event.step: event.value for event in events.Scalars("validation/held-out/psnr_y")}
    train(replace(tiny(6), validate_every=2), places(photos, tmp_path), resume=True)
    events.Reload()
    assert [event.step for event in events.Scalars("loss")] == [1, 2, 3, 4, 5, 6]
    assert reached == pytest.approx({s: v["held-out"]["psnr_y"] for s, v in measured.items()}, rel=1e-6)


def test_validation_folders_are_measured_instead_of_held_out_photographs(photos, tmp_path, pictures):
    train(tiny(2), places(photos, tmp_path / "run", val=[pictures]))
    first, *_ = (json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines())
    assert set(first["bicubic"]) == {"Pictures"}
    assert set(validations(tmp_path / "run")[2]) == {"Pictures"}
    assert (tmp_path / "run" / "samples" / "Pictures_77_000000002.png").exists()
