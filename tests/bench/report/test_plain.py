"""Words from files, made safe to print."""

from lkdn_deploy.bench.report.plain import plain, with_plain_texts
from lkdn_deploy.bench.results import LeftOut, Protocol


def test_no_control_character_and_no_line_break_is_left() -> None:
    assert plain("a\x1b[31mb\n\tc\u202ed\x00") == "a\ufffd[31mb c\ufffdd\ufffd"


def test_words_of_every_language_stay() -> None:
    assert plain("\u8d85\u89e3\u50cf é") == "\u8d85\u89e3\u50cf é"


def test_words_are_found_wherever_they_are() -> None:
    given = {"a\n": [LeftOut("b\n", "c\x07")], "d": (1, None, Protocol.STEADY)}
    found = with_plain_texts(given)
    assert found == {"a": [LeftOut("b", "c\ufffd")], "d": (1, None, Protocol.STEADY)}
    assert isinstance(found["d"][2], Protocol)
