import pytest

from lkdn_deploy.cli._shell import run
from lkdn_deploy.cli.zoo import command
from lkdn_models.zoo import ENTRIES, names


def test_the_list_has_a_row_for_every_network_and_scale_and_fits_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(command, ["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + len(ENTRIES)
    assert max(map(len, lines)) <= 80
    assert any(line.split()[:4] == ["lkdn", "x4", "322.0K", "18.3G"] for line in lines)


@pytest.mark.parametrize("name", names())
def test_a_network_is_shown_with_its_paper_its_costs_and_its_weights(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(command, ["show", name]) == 0
    out = capsys.readouterr().out
    assert "Xie et al." in out
    assert "receptive radius" in out
    for entry in ENTRIES:
        if entry.name == name and entry.weights:
            assert entry.weights.url in out
            assert entry.weights.sha256 in out
            assert entry.weights.licence in out


def test_an_unknown_network_is_refused_with_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(command, ["show", "edsr"]) == 2
    err = capsys.readouterr().err
    assert "no network is called edsr" in err
    assert "lkdn-s" in err
