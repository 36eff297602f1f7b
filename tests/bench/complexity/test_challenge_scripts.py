"""Counts of the challenges' own scripts, which were run on the published networks, beside those of the zoo.

``test_demo.py`` of ofsoundof/NTIRE2023_ESR@a6d76c7, Amazingren/NTIRE2024_ESR@6404fa4, NTIRE2025_ESR@b69fb66 and
NTIRE2026_ESR@4592ce6 printed the figures, with PyTorch 2.13 and fvcore 0.1.5 on a CPU, of their own modules.
"""

import pytest

from lkdn_deploy.bench.complexity.cost import cost
from lkdn_deploy.bench.models import find_models
from lkdn_deploy.bench.results import Protocol

PRINTED = {
    (Protocol.NTIRE_2023, "rfdn-aim"): (433_448, 27_102_622_560, 112_034_240, 64),
    (Protocol.NTIRE_2024, "rlfn-ntire"): (317_218, 19_674_859_520, 80_045_184, 39),
    (Protocol.NTIRE_2024, "span-ch28"): (150_688, 9_833_807_872, 41_680_896, 22),
    (Protocol.NTIRE_2024, "gfmn"): (88_408, 5_555_830_784, 180_174_848, 82),
    (Protocol.NTIRE_2024, "r2net"): (214_800, 13_050_087_424, 52_520_064, 27),
    (Protocol.NTIRE_2025, "sgsdn"): (92_592, 5_818_023_936, 344_457_216, 210),
    (Protocol.NTIRE_2025, "safmn-v3"): (144_672, 9_415_139_328, 76_693_504, 44),
    (Protocol.NTIRE_2025, "efdn"): (276_192, 16_703_470_848, 111_116_736, 65),
    (Protocol.NTIRE_2025, "dipnet"): (154_336, 9_062_352_896, 58_811_520, 39),
    (Protocol.NTIRE_2025, "spanf"): (148_288, 9_681_502_208, 39_845_888, 18),
    (Protocol.NTIRE_2025, "reprlfn"): (325_020, 20_310_736_776, 81_284_664, 39),
    (Protocol.NTIRE_2025, "tssr"): (163_792, 10_693_378_048, 40_894_464, 19),
    (Protocol.NTIRE_2026, "span-ch28"): (150_688, 9_833_807_872, 41_680_896, 22),
    (Protocol.NTIRE_2026, "pds"): (141_748, 9_253_683_200, 39_059_456, 18),
    (Protocol.NTIRE_2026, "pkdsr"): (143_928, 9_396_289_536, 39_321_600, 18),
}
"""Parameters, FLOPs, activations and convolutions by protocol and network."""


@pytest.mark.parametrize(("protocol", "name"), PRINTED)
def test_the_counts_are_those_of_the_challenges_script(protocol: Protocol, name: str) -> None:
    (model,) = find_models([name], 4, [])
    found = cost(model, protocol)
    counts = found.parameters, found.operations, found.activations, found.convolutions
    assert counts == PRINTED[protocol, name]
