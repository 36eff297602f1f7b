import pytest

from lkdn_deploy.core.errors import UsageError
from lkdn_deploy.core.spec import Block, LkdnSpec, Upsampler


def test_the_papers_networks() -> None:
    assert LkdnSpec.lkdn(4).receptive_radius == 99
    assert LkdnSpec.lkdn_s(4).receptive_radius == 63
    assert LkdnSpec.lkdn(4).fused
    assert not LkdnSpec.lkdn_s(4).fused


def test_a_plain_block_with_a_branched_upsampler_is_not_fused() -> None:
    assert not LkdnSpec(2, 1, 8, 8, Block.BSB, Upsampler.REP).fused


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ((0, 5, 42, 42), "scale must be between 1 and 8, got 0"),
        ((4, 0, 42, 42), "blocks"),
        ((4, 5, 43, 42), "channels must be even"),
        ((4, 5, 42, 0), "attention_channels"),
        ((4, 5, 1 << 20, 42), "channels must be between"),
    ],
)
def test_a_value_out_of_range_is_named(values: tuple[int, int, int, int], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        LkdnSpec(*values)
