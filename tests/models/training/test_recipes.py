"""The shipped recipes against the published trainings, and the schema that every recipe is held to."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from lkdn_deploy.core.errors import InputError, UsageError
from lkdn_deploy.core.spec import LkdnSpec
from lkdn_models.nets.lkdn import LKDN
from lkdn_models.training.recipe import (
    FOLDER,
    Loss,
    Optimisation,
    Optimiser,
    Recipe,
    as_table,
    find_recipe,
    from_table,
    read_recipe,
    shipped,
)

ADAN = {"optimisation.optimiser": "adan", "optimisation.learning_rate": 5e-3, "optimisation.betas": (0.98, 0.92, 0.99)}
ADAM = {"optimisation.optimiser": "adam", "optimisation.learning_rate": 1e-3, "optimisation.betas": (0.9, 0.99)}
LARGE = {"data.patch": 48, "data.batch": 64, "optimisation.iterations": 10**6, "optimisation.loss": "l1"}

# From the paper, section 4.2 and Table 3; Adam's from the authors' option files, github.com/stella-von/LKDN at 54df78a.
PUBLISHED: dict[str, dict[str, Any]] = {
    "lkdn_x2": {**LARGE, **ADAN},
    "lkdn_x3": {**LARGE, **ADAN},
    "lkdn_x4": {**LARGE, **ADAN},
    "table3_adam": {**LARGE, **ADAM},
    "lkdn_s_x4_stage1": {
        **ADAN,
        "data.patch": 256 // 4,
        "data.batch": 2 * 64,
        "optimisation.iterations": 950_000,
        "optimisation.loss": "l1",
    },
    "lkdn_s_x4_stage2": {
        **ADAN,
        "data.patch": 480 // 4,
        "data.batch": 64,
        "optimisation.iterations": 50_000,
        "optimisation.learning_rate": 2e-5,
        "optimisation.loss": "l2",
    },
}
EVERYWHERE = {
    "seed": 0,
    "data.candidates": 1,
    "data.max_sides": (),
    "data.held_out": 0,
    "optimisation.ema": 0.999,
    "optimisation.warm_up": 0,
    "optimisation.milestones": (),
    "optimisation.tail": 0.0,
    "optimisation.max_grad_norm": float("inf"),
    "optimisation.bf16": False,
    "network.input_copies": 4,
}
PAPER = sorted({*PUBLISHED, "table1_c64_a32", "table2_bsb", "table2_bsrb", "table2_rbsb", "table3_adan"})


def recipe(name: str) -> Recipe:
    return read_recipe(find_recipe(name))


def flat(of: Recipe) -> dict[str, Any]:
    """``{"seed": 0, "network.scale": 4, ...}``."""
    return {
        f"{name}.{key}" if key else name: item
        for name, value in asdict(of).items()
        for key, item in (value.items() if isinstance(value, dict) else [("", value)])
    }


def parameters(spec: LkdnSpec) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in LKDN(spec).parameters())


@pytest.mark.parametrize("name", shipped())
def test_a_shipped_recipe_is_valid_and_survives_being_written_down(name: str) -> None:
    assert from_table(as_table(recipe(name))) == recipe(name)


def test_the_readme_names_every_recipe() -> None:
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert [name for name in shipped() if f"`{name}`" not in text and not name.startswith("bundled_")] == []


@pytest.mark.parametrize("name", PUBLISHED)
def test_settings_are_the_published_ones(name: str) -> None:
    held = flat(recipe(name))
    assert {key: held[key] for key in PUBLISHED[name]} == PUBLISHED[name]


@pytest.mark.parametrize("name", PAPER)
def test_recipes_of_the_paper_agree_in_what_it_never_varies(name: str) -> None:
    held = flat(recipe(name))
    assert {key: held[key] for key in EVERYWHERE} == EVERYWHERE


@pytest.mark.parametrize("name", PAPER)
def test_the_rate_of_the_paper_is_constant(name: str) -> None:
    settings = recipe(name).optimisation
    steps = (0, 1, settings.iterations // 2, settings.iterations - 1)
    assert {settings.rate(step) for step in steps} == {settings.learning_rate}


# Of the paper's tables where it gives a count (304 K, 311 K, 322 K, 129 K, 322 K), else of the published checkpoints'
# shapes; the last digits were computed from networks that load these checkpoints.
@pytest.mark.parametrize(
    ("name", "training", "fused"),
    [
        ("lkdn_x2", 303_812, 303_812),
        ("lkdn_x3", 311_387, 311_387),
        ("lkdn_x4", 321_992, 321_992),
        ("lkdn_s_x4_stage1", 172_449, 129_177),
        ("lkdn_s_x4_stage2", 172_449, 129_177),
        ("table1_c64_a32", 321_904, 321_904),
        ("table2_bsb", 171_189, 129_177),
        ("table2_bsrb", 171_189, 129_177),
        ("table2_rbsb", 172_449, 129_177),
    ],
)
def test_parameters_are_those_of_the_paper(name: str, training: int, fused: int) -> None:
    spec = recipe(name).network
    assert (parameters(spec), parameters(spec.deployed)) == (training, fused)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_networks_are_those_that_checkpoints_are_published_of(scale: int) -> None:
    assert recipe(f"lkdn_x{scale}").network == LkdnSpec.lkdn(scale)
    assert {recipe(f"lkdn_s_x4_stage{stage}").network for stage in (1, 2)} == {LkdnSpec.lkdn_s(4)}


@pytest.mark.parametrize(
    ("one", "other", "keys"),
    [
        ("lkdn_x4", "lkdn_x2", "network.scale"),
        ("lkdn_x4", "lkdn_x3", "network.scale"),
        ("lkdn_x4", "table1_c64_a32", "network.channels network.attention_channels"),
        ("table2_rbsb", "table2_bsb", "network.block"),
        ("table2_rbsb", "table2_bsrb", "network.block"),
        ("table3_adan", "table3_adam", "optimisation.optimiser optimisation.learning_rate optimisation.betas"),
        ("table3_adan", "lkdn_x4", ""),
        ("lkdn_s_x4_stage1", "table2_rbsb", ""),
        (
            *("lkdn_s_x4_stage1", "lkdn_s_x4_stage2"),
            "data.patch data.batch optimisation.iterations optimisation.learning_rate optimisation.loss",
        ),
    ],
)
def test_recipes_that_are_compared_differ_in_what_is_compared(one: str, other: str, keys: str) -> None:
    first, second = flat(recipe(one)), flat(recipe(other))
    assert {key for key in first if first[key] != second[key]} == {*keys.split()}


def table(**changes: Any) -> dict[str, Any]:
    """A small valid recipe; ``changes`` are merged into its tables, or replace its other keys."""
    base: dict[str, Any] = {
        "network": {"scale": 2, "blocks": 1, "channels": 8, "attention_channels": 8},
        "data": {"patch": 16, "batch": 2},
        "optimisation": {"iterations": 10, "learning_rate": 1e-3},
    }
    for name, value in changes.items():
        base[name] = {**base.get(name, {}), **value} if isinstance(value, dict) else value
    return base


def test_a_recipe_without_optional_keys_takes_the_documented_ones() -> None:
    held = from_table(table())
    assert held.optimisation == Optimisation(10, 1e-3, Optimiser.ADAN, (), Loss.L1)
    assert (held.seed, held.keep, held.validate_every) == (0, 2, 0)


def test_a_whole_number_is_taken_for_a_fraction_and_a_list_for_a_tuple() -> None:
    settings = from_table(table(optimisation={"learning_rate": 1, "betas": [0, 0.5, 0], "milestones": [3, 5]}))
    assert settings.optimisation == replace(
        from_table(table()).optimisation, learning_rate=1.0, betas=(0.0, 0.5, 0.0), milestones=(3, 5)
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimization": {}}, "unknown key optimization"),
        ({"sead": 1}, "unknown key sead"),
        ({"optimisation": {"lr": 1e-3}}, "unknown key optimisation.lr"),
        ({"network": {"depth": 8}}, "unknown key network.depth"),
        ({"data": {"size": 48}}, "unknown key data.size"),
        ({"network": 3}, "network must be a table"),
        ({"optimisation": {"iterations": 1e6}}, "optimisation.iterations must be of type int, got 1000000.0"),
        ({"optimisation": {"learning_rate": "5e-3"}}, "optimisation.learning_rate must be of type float, got '5e-3'"),
        ({"optimisation": {"learning_rate": [5e-3]}}, "optimisation.learning_rate must be of type float, got [0.005]"),
        ({"optimisation": {"learning_rate": True}}, "optimisation.learning_rate must be of type float, got True"),
        ({"seed": True}, "seed must be of type int, got True"),
        ({"optimisation": {"bf16": 1}}, "optimisation.bf16 must be of type bool, got 1"),
        ({"optimisation": {"betas": 0.9}}, "optimisation.betas must be a list, got 0.9"),
        ({"optimisation": {"betas": [0.9, "0.99", 0.9]}}, "optimisation.betas must be of type float, got '0.99'"),
        ({"optimisation": {"milestones": [1.5]}}, "optimisation.milestones must be of type int, got 1.5"),
        ({"optimisation": {"optimiser": "sgd"}}, "optimisation.optimiser must be one of adan, adam, got 'sgd'"),
        ({"optimisation": {"loss": "huber"}}, "optimisation.loss must be one of l1, l2, mixed, got 'huber'"),
        ({"optimisation": {"loss": ["l1"]}}, "optimisation.loss must be one of l1, l2, mixed, got ['l1']"),
        ({"network": {"block": "conv"}}, "network.block must be one of bsb, bsrb, rbsb, got 'conv'"),
        ({"network": {"channels": 7}}, "channels must be even"),
        ({"network": {"scale": 9}}, "scale must be between 1 and 8, got 9"),
        ({"data": {"patch": 4}}, "patch must be between 8 and 1024, got 4"),
        ({"data": {"batch": 0}}, "batch must be between 1 and 4096, got 0"),
        ({"optimisation": {"iterations": 0}}, "iterations must be from 1 to 100 million, got 0"),
        ({"optimisation": {"learning_rate": -1e-3}}, "learning_rate must be above 0 and at most 1, got -0.001"),
        ({"optimisation": {"learning_rate": float("nan")}}, "learning_rate must be above 0 and at most 1, got nan"),
        ({"optimisation": {"betas": [0.9, 0.99]}}, "betas must be 3 shares from 0 to below 1, got (0.9, 0.99)"),
        (
            {"optimisation": {"optimiser": "adam", "betas": [0.98, 0.92, 0.99]}},
            "betas must be 2 shares from 0 to below 1, got (0.98, 0.92, 0.99)",
        ),
        ({"optimisation": {"betas": [0.9, 0.9, 1.0]}}, "betas must be 3 shares from 0 to below 1"),
        ({"optimisation": {"warm_up": -1}}, "warm_up must be 0 or more, got -1"),
        ({"optimisation": {"milestones": [5, 3]}}, "milestones must be growing numbers of iterations above 0"),
        ({"optimisation": {"milestones": [3, 3]}}, "milestones must be growing numbers of iterations above 0"),
        ({"optimisation": {"milestones": [0, 3]}}, "milestones must be growing numbers of iterations above 0"),
        ({"optimisation": {"factor": 0}}, "factor must be above 0 and at most 1, got 0.0"),
        ({"optimisation": {"tail": 1.5}}, "tail must be a share from 0 to 1, got 1.5"),
        ({"optimisation": {"ema": 1}}, "ema must be a share from 0 to below 1, got 1.0"),
        ({"optimisation": {"max_grad_norm": 0}}, "max_grad_norm must be above 0, got 0.0"),
        ({"seed": -1}, "seed must be 0 or more, got -1"),
        ({"log_every": 0}, "log_every must be 1 or more, got 0"),
        ({"save_every": 0}, "save_every must be 1 or more, got 0"),
        ({"keep": 0}, "keep must be 1 or more, got 0"),
        ({"validate_every": -1}, "validate_every must be 0 or more, got -1"),
    ],
    ids=lambda value: "" if isinstance(value, dict) else value[:48],
)
def test_a_wrong_value_is_refused_by_its_name(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as refused:
        from_table(table(**changes))
    assert refused.value.message.startswith(message)


@pytest.mark.parametrize("name", ["network", "data", "optimisation"])
def test_a_missing_table_is_refused_with_the_keys_it_lacks(name: str) -> None:
    whole = table()
    lacks = whole.pop(name)
    with pytest.raises(UsageError, match="incomplete: missing") as refused:
        from_table(whole)
    assert [key for key in lacks if f"'{key}'" not in refused.value.message] == []


def test_an_unknown_key_comes_with_the_known_ones() -> None:
    with pytest.raises(UsageError) as refused:
        from_table(table(data={"size": 48}))
    assert "patch, batch" in str(refused.value.hint)


def test_recipes_are_found_by_name_and_by_path(tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    assert find_recipe("tiny") == FOLDER / "tiny.toml"
    assert find_recipe(str(own)) == own
    with pytest.raises(UsageError, match="no recipe is called lkdn_x5") as refused:
        find_recipe("lkdn_x5")
    assert "lkdn_x4" in str(refused.value.hint)


def test_a_file_that_is_no_recipe_is_named(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    with pytest.raises(InputError, match=r"own\.toml cannot be read: No such file"):
        read_recipe(path)
    for content, message in (
        (b"seed = ", "is not a TOML file"),
        (b"\xff", "is not a TOML file"),
        (b"seed = 1", "incomplete"),
    ):
        path.write_bytes(content)
        with pytest.raises((InputError, UsageError)) as refused:
            read_recipe(path)
        assert str(path) in refused.value.message
        assert message in refused.value.message


def test_the_rate_grows_through_the_warm_up() -> None:
    settings = Optimisation(iterations=100, learning_rate=1.0, warm_up=3)
    assert [settings.rate(step) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]


def test_the_rate_falls_by_the_factor_from_each_milestone_on() -> None:
    settings = Optimisation(iterations=10, learning_rate=1.0, milestones=(2, 5, 100), factor=0.1)
    assert [settings.rate(step) for step in (0, 1, 2, 4, 5, 9)] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


def test_the_rate_falls_to_zero_along_a_cosine_in_the_tail() -> None:
    settings = Optimisation(iterations=100, learning_rate=1.0, tail=0.4)
    assert {settings.rate(step) for step in range(61)} == {1.0}
    assert [settings.rate(step) for step in (70, 80, 90)] == pytest.approx([0.5 + 0.5**1.5, 0.5, 0.5 - 0.5**1.5])
    assert settings.rate(100) == 0
    rates = [settings.rate(step) for step in range(60, 101)]
    assert rates == sorted(set(rates), reverse=True)


def test_warm_up_milestones_and_tail_multiply() -> None:
    settings = Optimisation(iterations=10, learning_rate=1.0, warm_up=1, milestones=(5,), factor=0.5, tail=0.4)
    assert [settings.rate(step) for step in (0, 1, 5, 8)] == pytest.approx([0.5, 1.0, 0.5, 0.25])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a = " + b"[" * 3000 + b"]" * 3000, "is not a TOML file"),
        (b"a." * 3000 + b"b = 1", "unknown key a|is not a TOML file"),
        (b"seed = " + b"9" * 5000, "is not a TOML file"),
        (b"seed = 0x" + b"f" * 5000, "is not a TOML file|must be|incomplete"),
        (b"\xff", "is not a TOML file"),
        (b"#" * (1 << 20) + b"\n", "larger than 1,048,576 bytes"),
        (b"[optimisation]\niterations = 5\nlearning_rate = 0x" + b"f" * 400, "learning_rate .* too large"),
    ],
)
def test_whatever_a_file_holds_its_name_is_said(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "r.toml").write_bytes(content)
    with pytest.raises((InputError, UsageError), match=rf"r\.toml.*({said})"):
        read_recipe(tmp_path / "r.toml")
