"""Names of outputs, what is refused before work, and shares of the inputs."""

from pathlib import Path, PurePath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lkdn_deploy.core.errors import UsageError
from lkdn_deploy.runtime.inputs import Inputs, SourceFile
from lkdn_deploy.runtime.jobs import NameTemplate, Shard, plan_jobs
from lkdn_deploy.runtime.settings import OutputSettings

FACTS = {"scale": "4", "model": "lkdn-s"}


def inputs(*names: str, folder: str = "in") -> Inputs:
    return Inputs(tuple(SourceFile(Path(folder) / name, PurePath(name)) for name in names), (), (Path(folder),))


def targets(*names: str, name: str | None = None, form: str | None = None) -> list[str]:
    template = None if name is None else NameTemplate(name)
    jobs = plan_jobs(inputs(*names), Path("out"), OutputSettings(format=form), template=template, facts=lambda: FACTS)
    return [job.target.relative_to("out").as_posix() for job in jobs]


def test_names_and_folders_of_the_inputs_are_kept_and_formats_that_are_only_read_become_png() -> None:
    names = ["a.JPG", "b.webp", "c.gif", "d", "sub/more/e.tif", "f.mpo", "g.h.heic"]
    assert targets(*names) == ["a.JPG", "b.webp", "c.png", "d.png", "sub/more/e.tif", "f.png", "g.h.png"]
    assert targets("a.JPG", "sub/c.gif", form="webp") == ["a.webp", "sub/c.webp"]


def test_names_follow_a_template() -> None:
    assert targets("a.b.jpg", "s/c.gif", name="{stem}_x{scale}{ext}") == ["a.b_x4.jpg", "s/c_x4.png"]
    assert targets("a.jpg", name="{name}-{model}{ext}", form="png") == ["a.jpg-lkdn-s.png"]
    assert targets("a.jpg", "b.jpg", name="{{{stem}}}.tif") == ["{a}.tif", "{b}.tif"]


@pytest.mark.parametrize(
    "text",
    [
        *("{width}{ext}", "{}{ext}", "{0}{ext}", "{stem.__class__}{ext}", "{stem[0]}{ext}", "{stem!r}{ext}"),
        *("{stem:>9}{ext}", "{stem", "}", "../{stem}{ext}", "/{stem}{ext}", "a\\{stem}{ext}", "{stem}\0{ext}"),
        *("", " ", ".{stem}{ext}", "..", "."),
    ],
)
def test_templates_with_other_fields_or_other_folders_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="expected a name made of"):
        NameTemplate(text)


@pytest.mark.parametrize(
    ("name", "form", "said"),
    [
        ("{stem}", None, "no suffix of a format"),
        ("{stem}.xyz", None, "no suffix of a format"),
        ("{stem}.png", "jpg", "contradicts the format 'jpg'"),
    ],
)
def test_a_template_whose_suffix_does_not_serve_is_refused(name: str, form: str | None, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        targets("a.jpg", name=name, form=form)


def test_a_model_whose_name_is_a_path_leads_nowhere() -> None:
    with pytest.raises(UsageError, match="would lead to another folder"):
        plan_jobs(
            inputs("a.png"),
            Path("out"),
            OutputSettings(),
            template=NameTemplate("{model}{stem}{ext}"),
            facts=lambda: {"scale": "2", "model": "../../x"},
        )


def test_the_network_is_asked_for_only_by_templates_that_name_it() -> None:
    def facts() -> dict[str, str]:
        raise AssertionError

    plan_jobs(inputs("a.png"), Path("out"), OutputSettings(), template=NameTemplate("{stem}{ext}"), facts=facts)


def test_a_quality_is_for_the_lossy_ones_of_many() -> None:
    jobs = plan_jobs(inputs("a.png", "b.jpg"), Path("out"), OutputSettings(quality=30))
    assert [(job.settings.format, job.settings.quality) for job in jobs] == [("png", None), ("jpg", 30)]


def test_inputs_that_would_become_one_file_are_refused_and_all_named() -> None:
    with pytest.raises(UsageError) as caught:
        targets("a.gif", "a.png", "b.png", "s/c.heic", "s/c.gif", "s/c.png")
    for pair in ("a.gif and in/a.png", "c.heic and in/s/c.gif", "c.heic and in/s/c.png"):
        assert pair in caught.value.message
    assert targets("a.gif", "a.png", name="{name}{ext}") == ["a.gif.png", "a.png.png"]
    with pytest.raises(UsageError, match=r"would both become.*; and 6 more"):
        targets(*(f"{index}.png" for index in range(12)), name="all{ext}")


def test_one_file_by_two_names_is_found_through_links(tmp_path: Path) -> None:
    (tmp_path / "out" / "a").mkdir(parents=True)
    (tmp_path / "out" / "b").symlink_to(tmp_path / "out" / "a")
    with pytest.raises(UsageError, match="would both become"):
        plan_jobs(inputs("a/x.png", "b/x.png"), tmp_path / "out", OutputSettings())


def test_an_output_in_the_place_of_a_folder_is_refused() -> None:
    with pytest.raises(UsageError, match=r"a\.png would be a file and a folder"):
        targets("a.gif", "a.png/b.png")


def test_the_folder_of_the_inputs_takes_no_outputs(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "in")
    found = inputs("a.png", folder=str(tmp_path / "in"))
    template = NameTemplate("{stem}_large{ext}")
    for target in (tmp_path / "in", tmp_path / "link", tmp_path / "in" / ".." / "in"):
        with pytest.raises(UsageError, match="is the folder of the inputs"):
            plan_jobs(found, target, OutputSettings(), template=template)
    inside = tmp_path / "link" / "large"
    assert plan_jobs(found, inside, OutputSettings())  # not searched
    with pytest.raises(UsageError, match="is inside of"):
        plan_jobs(found, inside, OutputSettings(), recursive=True)


def test_an_output_never_replaces_an_input(tmp_path: Path) -> None:
    for name in ("in/in/b.png", "in/b.png", "c.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "in" / "c.png").symlink_to(tmp_path / "c.png")
    with pytest.raises(UsageError, match=r"in/in/b\.png would replace the input .*in/b\.png"):
        plan_jobs(inputs("b.png", "in/b.png", folder=str(tmp_path / "in")), tmp_path, OutputSettings(), recursive=True)
    with pytest.raises(UsageError, match=r"c\.png would replace itself"):
        plan_jobs(inputs("c.png", folder=str(tmp_path / "in")), tmp_path, OutputSettings())
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.png").symlink_to("../in/b.png")
    with pytest.raises(UsageError, match=r"a\.png would replace the input .*b\.png: .*out/a\.png is a link to it"):
        plan_jobs(inputs("a.png", "b.png", folder=str(tmp_path / "in")), tmp_path / "out", OutputSettings())


NAMES = st.lists(st.text("abcü/.\udcff ", min_size=1, max_size=8), max_size=40, unique=True)


@given(NAMES, st.text("abc", min_size=1), st.integers(1, 9))
def test_shares_are_disjoint_and_complete_and_stay_when_files_are_added(
    names: list[str], added: str, count: int
) -> None:
    shards = [Shard(index, count) for index in range(1, count + 1)]
    for relative in map(PurePath, [*names, added]):
        assert sum(shard.takes(relative) for shard in shards) == 1


def test_shares_of_a_plan_make_up_the_whole_and_refuse_the_same() -> None:
    names = [f"{folder}/{index}.png" for folder in "abc" for index in range(100)]

    def planned(found: Inputs, shard: Shard | None) -> list[Path]:
        return [job.target for job in plan_jobs(found, Path("out"), OutputSettings(), shard=shard)]

    shares = [planned(inputs(*names), Shard(index, 4)) for index in (1, 2, 3, 4)]
    assert sorted(target for share in shares for target in share) == sorted(planned(inputs(*names), None))
    assert all(50 < len(share) < 100 for share in shares)
    more = [planned(inputs(*names, *(f"new/{index}.png" for index in range(9))), Shard(index, 4)) for index in (1, 2)]
    assert all(set(share) <= set(grown) for share, grown in zip(shares, more, strict=False))
    for index in (1, 2, 3, 4):
        with pytest.raises(UsageError, match="would both become"):
            planned(inputs("x.gif", "x.png", *names), Shard(index, 4))


def test_a_share_is_that_of_every_version_and_machine() -> None:
    """A job array that is resumed by a later version goes on with the same shares."""
    taken = [name for name in map(str, range(20)) if Shard(2, 3).takes(PurePath("a", f"{name}.png"))]
    assert taken == ["4", "5", "6", "10", "11", "16", "17", "18"]


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "1/0", "-1/3", "1/3/5", "a/b", "١/٣", " 1/3", "1/9999999"])
def test_what_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="expected a share such as 3/16"):
        Shard.parse(text)


def test_a_share_is_read_and_printed() -> None:
    assert str(Shard.parse("3/16")) == "3/16"
