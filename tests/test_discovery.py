from __future__ import annotations

import glob
import os
import re
import string
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from shared_data import shared_data

from batchfuse.errors import RecipeError
from batchfuse.imagery.discovery import Discovery, discover
from batchfuse.imagery.naming import name_fault, natural_order
from batchfuse.imagery.wildcards import Pattern

Patterns = Mapping[str, Sequence[str]]
PAIR: Patterns = {"thermal": ["t/{scene}.tif"], "optical": ["o/{scene}.tif"]}


def make(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def names(found: Discovery) -> list[str]:
    return [scene.name for scene in found.scenes]


def left(found: Discovery, folder: Path) -> dict[str, str]:
    return {item.path.relative_to(folder).as_posix(): item.reason for item in found.unmatched}


def refused(folder: Path, patterns: Patterns, manifest: str | None = None) -> list[str]:
    """The lines of the error, without the folder."""
    with pytest.raises(RecipeError) as caught:
        discover(folder, patterns, manifest)
    return str(caught.value).replace(f"{folder}/", "").replace(str(folder), "HERE").splitlines()


# Wildcards


def test_files_of_one_name_make_a_scene_in_natural_order(tmp_path: Path) -> None:
    make(tmp_path, *(f"{folder}/s{n}.tif" for folder in "to" for n in (10, 9, 1)))
    found = discover(tmp_path, PAIR)
    assert names(found) == ["s1", "s9", "s10"]
    assert found.scenes[0].files == {
        "thermal": (tmp_path / "t/s1.tif",),
        "optical": (tmp_path / "o/s1.tif",),
    }
    assert found.unmatched == ()


def test_several_files_of_a_source_keep_their_order(tmp_path: Path) -> None:
    make(tmp_path, *(f"L8_{n}_B{b}.TIF" for n in (1, 2) for b in (10, 2, 3, 4)))
    optical = ["{scene}_B4.TIF", "{scene}_B3.TIF", "{scene}_B2.TIF"]
    found = discover(tmp_path, {"thermal": ["{scene}_B10.TIF"], "optical": optical})
    assert [path.name for path in found.scenes[1].files["optical"]] == [
        "L8_2_B4.TIF",
        "L8_2_B3.TIF",
        "L8_2_B2.TIF",
    ]


def test_several_wildcards_are_joined_and_stand_in_folders_too(tmp_path: Path) -> None:
    make(tmp_path, "32TNT/2020/t.tif", "32TNT/2021/t.tif", "o/32TNT-2020.tif", "o/32TNT-2021.tif")
    found = discover(tmp_path, {"thermal": ["{tile}/{date}/t.tif"], "optical": ["o/{tile}-{date}.tif"]})
    assert names(found) == ["32TNT_2020", "32TNT_2021"]


def test_a_wildcard_used_twice_matches_the_same_text(tmp_path: Path) -> None:
    make(tmp_path, "a/a.tif", "a/b.tif", "o/a.tif", "o/b.tif")
    found = discover(tmp_path, {"thermal": ["{s}/{s}.tif"], "optical": ["o/{s}.tif"]})
    assert names(found) == ["a"]
    assert "a/b.tif" in left(found, tmp_path)


def test_a_pattern_with_fewer_wildcards_joins_on_those_it_has(tmp_path: Path) -> None:
    make(tmp_path, "a_1.tif", "a_2.tif", "b_1.tif", "dem/a.tif", "dem/b.tif", "dem/c.tif", "mask.png")
    found = discover(
        tmp_path, {"optical": ["{tile}_{date}.tif"], "dem": ["dem/{tile}.tif"], "mask": ["mask.png"]}
    )
    assert names(found) == ["a_1", "a_2", "b_1"]
    assert [scene.files["dem"][0].name for scene in found.scenes] == ["a.tif", "a.tif", "b.tif"]
    assert {scene.files["mask"][0].name for scene in found.scenes} == {"mask.png"}
    assert left(found, tmp_path) == {"dem/c.tif": "no complete scene has tile = c"}


def test_patterns_that_share_no_complete_one_are_refused(tmp_path: Path) -> None:
    (line,) = refused(tmp_path, {"thermal": ["t/{a}.tif"], "optical": ["o/{b}.tif"]})
    assert line == (
        "no source has all of the wildcards {a}, {b}, so nothing joins them: "
        'thermal ("t/{a}.tif") has {a}; optical ("o/{b}.tif") has {b}'
    )


def test_plain_files_make_one_scene(tmp_path: Path) -> None:
    make(tmp_path, "t.tif", "o [1] (a+b) #é {x}.tif", "other.tif")
    found = discover(tmp_path, {"thermal": ["./t.tif"], "optical": ["o [1] (a+b) #é {{x}}.tif"]})
    assert names(found) == ["scene"]
    assert found.scenes[0].files["optical"] == (tmp_path / "o [1] (a+b) #é {x}.tif",)
    assert found.unmatched == ()


def test_stars_stand_for_what_differs(tmp_path: Path) -> None:
    make(tmp_path, "a/x/y/s1_20200101.tif", "a/s2_20200102.tif", "o/s1.tif", "o/s2.tif", "a/x/n/s3_1.txt")
    found = discover(tmp_path, {"thermal": ["a/**/{scene}_*.tif"], "optical": ["o/{scene}.tif"]})
    assert names(found) == ["s1", "s2"]
    assert found.scenes[0].files["thermal"] == (tmp_path / "a/x/y/s1_20200101.tif",)


def test_two_files_for_one_source_are_an_error_that_lists_them(tmp_path: Path) -> None:
    make(tmp_path, *(f"t/s{n}_{k}.tif" for n in range(15) for k in "ab"), *(f"o/s{n}.tif" for n in range(15)))
    lines = refused(tmp_path, {"thermal": ["t/{scene}_*.tif"], "optical": ["o/{scene}.tif"]})
    assert lines[0] == (
        'scene "s0" has 2 files where thermal takes one: t/s0_a.tif, t/s0_b.tif: '
        'make "t/{scene}_*.tif" narrower'
    )
    assert lines[-1] == "… and 5 more"
    assert len(lines) == 11


def test_two_scenes_of_one_name_are_an_error(tmp_path: Path) -> None:
    make(tmp_path, "t/a_b-c.tif", "t/a-b_c.tif", "o/a_b-c.tif", "o/a-b_c.tif")
    (line,) = refused(tmp_path, {"thermal": ["t/{x}-{y}.tif"], "optical": ["o/{x}-{y}.tif"]})
    assert line.startswith('two scenes are called "a_b_c" once their wildcards are joined by _: t/a')


def test_one_file_for_two_sources_is_an_error(tmp_path: Path) -> None:
    make(tmp_path, "s1.tif")
    (line,) = refused(tmp_path, {"thermal": ["{scene}.tif"], "optical": ["./{scene}.tif"]})
    assert line == 'scene "s1" has one file for thermal and optical: s1.tif'


def test_upper_and_lower_case_differ(tmp_path: Path) -> None:
    make(tmp_path, "t/s1.TIF", "o/s1.tif")
    lines = refused(tmp_path, PAIR)
    assert lines == [
        "no scene is complete: each needs a file of every source",
        'thermal: "t/{scene}.tif" matches no file: t/s1.TIF differs in upper and lower case',
        'optical: "o/{scene}.tif" matches 1 file, such as s1.tif',
        'scene "s1" has no thermal: no t/s1.tif',
    ]


def test_accents_match_however_they_are_composed(tmp_path: Path) -> None:
    make(tmp_path, "t/Ze\u0301ro.tif", "o/Z\u00e9ro.tif")
    assert names(discover(tmp_path, PAIR)) == ["Z\u00e9ro"]


@pytest.mark.parametrize("text", ["{}.tif", "{a b}.tif", "{a}_{b.tif", "a}.tif", "{a,[0-9]+}.tif", "{1}.tif"])
def test_a_brace_that_is_no_wildcard_is_refused(tmp_path: Path, text: str) -> None:
    (line,) = refused(tmp_path, {"thermal": [text], "optical": ["o.tif"]})
    assert line.startswith(f'"{text}": ')
    assert line.endswith("is no wildcard: write {name} with letters, digits and _, or {{ and }} for braces")


@pytest.mark.parametrize("text", ["", ".", "a/", "{s}/../b.tif", ".."])
def test_a_path_that_names_no_file_is_refused(tmp_path: Path, text: str) -> None:
    (line,) = refused(tmp_path, {"thermal": [text], "optical": ["o.tif"]})
    assert line.startswith(f'"{text}"')


def test_patterns_may_lead_out_of_the_folder_and_from_the_root(tmp_path: Path) -> None:
    make(tmp_path, "t/s.tif", "o/s.tif", "recipes/x")
    patterns = {"thermal": ["../t/{scene}.tif"], "optical": [f"{tmp_path}/o/{{scene}}.tif"]}
    assert names(discover(tmp_path / "recipes", patterns)) == ["s"]


LITERAL = st.text(st.sampled_from("aB1._-+()[]^$\\ #{}é"), max_size=4)
WORD = st.text(st.sampled_from(string.ascii_letters + string.digits + "._- é[]{}"), min_size=1, max_size=6)


@settings(deadline=None)
@given(st.lists(st.tuples(LITERAL, st.sampled_from("abc")), min_size=1, max_size=4), LITERAL, st.data())
@example([("", "a"), ("_", "b")], ".tif", None)
def test_a_filled_pattern_matches_and_fills_to_the_same_path(
    pieces: list[tuple[str, str]], tail: str, data: st.DataObject | None
) -> None:
    text = "x/" + "".join(f"{_escaped(literal)}{{{name}}}" for literal, name in pieces) + _escaped(tail)
    pattern = Pattern.parse(text, Path("/data"))
    drawn = {name: data.draw(WORD) if data else "v_1" for name in pattern.wildcards}
    path = "".join(literal + drawn[name] for literal, name in pieces) + tail
    assert pattern.filled(drawn) == f"x/{path}"
    values = pattern.values(path)
    if path.startswith(".") and not pieces[0][0]:
        assert values is None
        return
    assert values is not None
    assert pattern.filled(dict(zip(pattern.wildcards, values, strict=True))) == f"x/{path}"
    if len(pattern.wildcards) == 1:
        assert values == tuple(drawn.values())


def _escaped(literal: str) -> str:
    return literal.replace("{", "{{").replace("}", "}}")


@given(st.lists(st.sets(st.sampled_from("abcdef_"), min_size=0), min_size=2, max_size=3))
@settings(max_examples=40, deadline=None)
def test_scenes_are_the_names_that_every_source_has(
    tmp_path_factory: pytest.TempPathFactory, roles: list[set[str]]
) -> None:
    folder = tmp_path_factory.mktemp("scenes")
    patterns = {f"r{index}": [f"r{index}/{{scene}}.tif"] for index in range(len(roles))}
    make(folder, *(f"r{index}/{name}.tif" for index, held in enumerate(roles) for name in held))
    complete = set.intersection(*roles)
    try:
        found = discover(folder, patterns)
    except RecipeError:
        assert not complete
        return
    assert names(found) == sorted(complete)
    assert len(found.unmatched) == sum(len(held - complete) for held in roles)


@settings(deadline=None)
@given(st.lists(st.integers(0, 10**12), min_size=1))
def test_natural_order_is_the_order_of_the_numbers(numbers: list[int]) -> None:
    ordered = sorted((f"s{n}_x" for n in numbers), key=natural_order)
    assert ordered == [f"s{n}_x" for n in sorted(numbers)]


# How long matching takes


def plainly_matched(text: str, path: str) -> tuple[str, ...] | None:
    """What a pattern's wildcards stand for, by the plainest regular expression, which tries every cut."""
    names: list[str] = []
    expression = ""
    segments = text.split("/")
    for number, segment in enumerate(segments):
        last = number == len(segments) - 1
        if segment == "**":
            expression += r"(?:(?!\.)[^/]+/)*" + (r"(?!\.)[^/]+" if last else "")
            continue
        pieces = re.findall(r"\{.\}|\*+|[^{*]+", segment)
        expression += r"(?!\.)" if pieces[0][0] in "{*" else ""
        for piece in pieces:
            if piece[0] == "{":
                seen = piece[1] in names
                expression += f"(?P={piece[1]})" if seen else f"(?P<{piece[1]}>[^/]+)"
                names += [] if seen else [piece[1]]
            else:
                expression += "[^/]*" if piece[0] == "*" else re.escape(piece)
        expression += "" if last else "/"
    match = re.fullmatch(expression, path)
    return match and tuple(match.group(name) for name in names)


PART = st.sampled_from(["*", "*", "{x}", "{y}", "{z}", "a", "b", ".", "ab"])
SEGMENTS = st.lists(
    st.just("**") | st.lists(PART, min_size=1, max_size=6).map("".join).filter(lambda s: "**" not in s),
    min_size=1,
    max_size=5,
)


@settings(max_examples=300)
@given(SEGMENTS, st.lists(st.text("ab.", min_size=1, max_size=6), min_size=1, max_size=6))
@example(["**", ".a", "**", "b"], ["a", ".a", "b", ".a", "b"])
@example(["{x}{y}", "{x}"], ["aba", "ab"])
def test_a_path_is_cut_as_the_plainest_expression_cuts_it(segments: list[str], path: list[str]) -> None:
    text = "*/" + "/".join(segments)  # the first segment is wild, so that the base is the folder
    assume(not any(segment in ("..", ".") for segment in segments))
    for wanted in ("/".join(["a", *path]), "a/" + "/".join(s.replace("*", "b") for s in segments)):
        assert Pattern.parse(text, Path("/data")).values(wanted) == plainly_matched(text, wanted)


STARS = [
    "scenes/*/*/**/*{scene}*a*a*a*a*a*a*a*a*a*a*b.tif",
    "*a" * 200 + "b",
    "{x}a" + "*a" * 200 + "b",
    "**/" * 200 + "b",
    "/".join(["*a*a*a*a*"] * 20) + "/b",
    "**/*a*/" * 100 + "b",
    "*" * 4000 + "b",
    "".join(f"{{n{i}}}" for i in range(500)) + "b",
]


@pytest.mark.parametrize("text", STARS)
def test_many_stars_take_no_more_than_a_moment(text: str) -> None:
    """By an expression that tries every cut most of these would take longer than the universe has."""
    pattern = Pattern.parse(text, Path("/data"))
    names = "a" * 250
    begun = time.process_time()
    for path in (names, f"{names}b", "/".join([names] * 16), "a/" * 2000 + "a", "a/" * 200 + "b"):
        pattern.values(path)
        pattern.differs_in_case(path)
    assert time.process_time() - begun < 5


def test_a_path_that_can_be_cut_in_too_many_ways_is_refused_in_a_line(tmp_path: Path) -> None:
    make(tmp_path, f"{'a' * 120}b/{'a' * 120}b", "o.tif")
    text = "{x}*a*a*a*a*a*a*a*/{x}{x}"
    (line,) = refused(tmp_path, {"thermal": [text], "optical": ["o.tif"]})
    assert line.startswith(f'"{text}" can be cut in too many ways for aaa')
    assert line.endswith("name each wildcard once, or use fewer stars")
    make(tmp_path, "L8_2020_01/x/2020_01_L8_b1.tif")
    found = discover(tmp_path, {"thermal": ["{scene}_{date}/**/{date}_{scene}*.tif"], "optical": ["o.tif"]})
    assert names(found) == ["L8_2020_01"]


def test_a_path_longer_than_any_file_system_has_is_refused(tmp_path: Path) -> None:
    (line,) = refused(tmp_path, {"thermal": ["*a" * 3000], "optical": ["o.tif"]})
    assert line.endswith("has 6,000 characters: a path has 4,096 at most")


# What is left over


def test_an_incomplete_scene_says_what_is_missing(tmp_path: Path) -> None:
    make(tmp_path, "t/s1.tif", "t/s2.tif", "o/s1_4.tif", "o/s1_3.tif", "o/s3_4.tif")
    found = discover(tmp_path, {"thermal": ["t/{s}.tif"], "optical": ["o/{s}_4.tif", "o/{s}_3.tif"]})
    assert names(found) == ["s1"]
    assert left(found, tmp_path) == {
        "t/s2.tif": 'scene "s2" has no optical: no o/s2_4.tif (nor 1 more of its files)',
        "o/s3_4.tif": 'scene "s3" has no thermal: no t/s3.tif (nor 1 more of its files)',
    }
    assert {item.scene for item in found.unmatched} == {"s2", "s3"}
    assert {item.role for item in found.unmatched} == {"thermal", "optical"}


def test_images_that_match_no_source_are_told_and_sidecars_are_not(tmp_path: Path) -> None:
    make(
        tmp_path, "t/s1.tif", "o/s1.tif", "t/s2.tiff", "t/s3.TIF", "t/s4.nii.gz", "t/deep/s5.tif", "notes.png"
    )
    make(tmp_path, "t/s1.tif.msk", "t/s1.tif.aux.xml", "t/s1.tif.ovr", "t/s1.txt", "t/.hidden.tif")
    found = discover(tmp_path, PAIR)
    assert left(found, tmp_path) == dict.fromkeys(
        ("t/s2.tiff", "t/s3.TIF", "t/s4.nii.gz"), "matches no source"
    )


def test_a_file_used_through_another_pattern_is_not_left_over(tmp_path: Path) -> None:
    make(tmp_path, "s1_T.tif", "s1_O.tif", "dem.tif")
    (tmp_path / "link").symlink_to(tmp_path)
    patterns = {"t": ["{s}_T.tif"], "o": ["link/{s}_O.tif"], "dem": ["./dem.tif"]}
    assert discover(tmp_path, patterns).unmatched == ()


def test_hidden_files_stores_and_the_output_are_not_searched(tmp_path: Path) -> None:
    make(
        tmp_path, "in/t/s1.tif", "in/.t/s1.tif", "in/t/.s2.tif", "in/a.zarr/s3.tif", "out/s4.tif", "o/s1.tif"
    )
    patterns = {"thermal": ["**/t/{scene}.tif"], "optical": ["**/o/{scene}.tif"]}
    found = discover(tmp_path, patterns, left_out=tmp_path / "out")
    assert names(found) == ["s1"]
    assert found.unmatched == ()
    make(tmp_path, ".cache/s9.tif", "o/s9.tif")
    hidden = {"thermal": [".cache/{scene}.tif"], "optical": ["o/{scene}.tif"]}
    assert names(discover(tmp_path, hidden)) == ["s9"]


def test_links_that_lead_in_circles_end(tmp_path: Path) -> None:
    make(tmp_path, "t/s1.tif", "o/s1.tif")
    (tmp_path / "t/again").symlink_to(tmp_path)
    (tmp_path / "t/self.tif").symlink_to(tmp_path / "t/self.tif")
    every = {"thermal": ["**/t/{scene}.tif"], "optical": ["**/o/{scene}.tif"]}
    assert names(discover(tmp_path, every)) == ["s1"]


def test_named_segments_and_double_stars_go_through_links(tmp_path: Path) -> None:
    make(tmp_path, "far/s1.tif", "o/s1.tif", "near/x")
    (tmp_path / "near/t").symlink_to(tmp_path / "far")
    optical = ["o/{scene}.tif"]
    for thermal in ("near/t/{scene}.tif", "near/*t/{scene}.tif", "*/t/**/{scene}.tif", "near/**/{scene}.tif"):
        assert names(discover(tmp_path, {"thermal": [thermal], "optical": optical})) == ["s1"]


def test_double_stars_find_the_products_that_are_linked_as_python_does(tmp_path: Path) -> None:
    make(tmp_path, *(f"lake/p{n}/p{n}_{band}.TIF" for n in (1, 2) for band in ("B10", "B4")))
    make(tmp_path, "scenes/p0/p0_B10.TIF", "scenes/p0/p0_B4.TIF")
    for n in (1, 2):
        (tmp_path / f"scenes/p{n}").symlink_to(f"../lake/p{n}")
    patterns = {"t": ["scenes/**/{scene}_B10.TIF"], "o": ["scenes/**/{scene}_B4.TIF"]}
    found = discover(tmp_path, patterns)
    everywhere = glob.glob(str(tmp_path / "scenes/**/*_B10.TIF"), recursive=True)  # noqa: PTH207 (Path.glob follows none)
    assert sorted(str(scene.files["t"][0]) for scene in found.scenes) == sorted(everywhere)


def test_double_stars_list_each_folder_once_whatever_leads_there(tmp_path: Path) -> None:
    make(tmp_path, "in/real/a/t/s1.tif", "in/o/s1.tif", "far/deep/t/s2.tif", "far/o/s2.tif", "s9.tif")
    for link, target in {
        "in/again": "in/real",  # what the walk itself finds
        "in/real/a/up": "in/real",  # a circle
        "in/all": ".",  # what holds the base, and all else with it
        "in/near": "far/deep",
        "in/zfar": "far",  # holds what near has found
        "far/back": "in",
    }.items():
        (tmp_path / link).symlink_to(tmp_path / target)
    every = {"thermal": ["in/**/t/{scene}.tif"], "optical": ["in/**/o/{scene}.tif"]}
    found = discover(tmp_path, every)
    assert names(found) == ["s1", "s2"]
    thermal = [str(scene.files["thermal"][0].relative_to(tmp_path)) for scene in found.scenes]
    assert thermal == ["in/real/a/t/s1.tif", "in/near/t/s2.tif"]
    assert found.unmatched == ()


def test_a_pipe_is_no_file_and_a_broken_link_is_left_to_its_reader(tmp_path: Path) -> None:
    make(tmp_path, "t/s2.tif", "o/s1.tif", "o/s2.tif")
    os.mkfifo(tmp_path / "t/s1.tif")
    assert names(discover(tmp_path, PAIR)) == ["s2"]
    (tmp_path / "t/s3.tif").symlink_to("nowhere.tif")
    make(tmp_path, "o/s3.tif")
    assert names(discover(tmp_path, PAIR)) == ["s2", "s3"]


def test_a_folder_that_cannot_be_listed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "a/t/s1.tif", "b/t/s2.tif", "o/s1.tif")
    scandir = os.scandir

    def denied(path: str | Path) -> object:
        if Path(path).name == "b":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", denied)
    found = discover(tmp_path, {"thermal": ["**/t/{scene}.tif"], "optical": ["o/{scene}.tif"]})
    assert names(found) == ["s1"]
    assert left(found, tmp_path) == {"b": "can't be searched: Permission denied"}


@pytest.mark.parametrize(
    "name", ["a:b", 'a"b', "a?b", "a|b", "a\nb", "a\\b", " a", "a ", "a.", "<a>", "x" * 201]
)
def test_a_name_that_is_no_file_name_everywhere_is_left_over_with_the_reason(
    tmp_path: Path, name: str
) -> None:
    make(tmp_path, f"t/{name}.tif", f"o/{name}.tif", "t/good.tif", "o/good.tif")
    found = discover(tmp_path, PAIR)
    assert names(found) == ["good"]
    assert len(found.unmatched) == 2
    for item in found.unmatched:
        assert "can't be the name of a scene" in item.reason
        assert item.reason.isprintable()


def test_a_name_that_is_not_utf8_is_left_over(tmp_path: Path) -> None:
    make(tmp_path, *(f"{folder}/{os.fsdecode(name)}.tif" for folder in "to" for name in (b"good", b"b\xff")))
    found = discover(tmp_path, PAIR)
    assert names(found) == ["good"]
    assert all(item.reason.encode() for item in found.unmatched)


def test_names_of_any_script_are_taken() -> None:
    for name in ("scene", "Zürich 2020-07-10", "東京", "a+b (1) #2", "..a"[2:], "LC08_L2SP_005009"):
        assert name_fault(name) is None
    for name in ("", ".", "..", ".a", "a/b", "a\0b"):
        assert name_fault(name)


# Nothing found


def test_a_folder_that_is_not_there_names_its_neighbour(tmp_path: Path) -> None:
    make(tmp_path, "scenes/s1_B10.TIF", "scenes/s1_B4.TIF")
    lines = refused(tmp_path, {"thermal": ["scene/{s}_B10.TIF"], "optical": ["scenes/{s}_B5.TIF"]})
    assert lines[1:] == [
        'thermal: "scene/{s}_B10.TIF" matches no file: the folder scene does not exist (nearest: scenes)',
        'optical: "scenes/{s}_B5.TIF" matches no file: nothing like it in scenes (nearest: s1_B4.TIF)',
    ]


def test_a_file_that_is_not_there_names_its_neighbour(tmp_path: Path) -> None:
    make(tmp_path, "thermal.tif", "o/x")
    lines = refused(tmp_path, {"thermal": ["termal.tif"], "optical": ["o/x/y.tif"]})
    assert lines[1:3] == [
        'thermal: "termal.tif" matches no file: nothing like it in HERE (nearest: thermal.tif)',
        'optical: "o/x/y.tif" matches no file: the folder o/x is no folder (nearest: x)',
    ]
    (tmp_path / "empty").mkdir()
    assert refused(tmp_path, {"a": ["empty/{s}.tif"], "b": ["{s}.tif"]})[1].endswith(
        "the folder empty is empty"
    )


def test_names_that_do_not_meet_are_shown(tmp_path: Path) -> None:
    make(tmp_path, "t/a1.tif", "o/b1.tif", "o/b2.tif")
    assert refused(tmp_path, PAIR)[1:4] == [
        'thermal: "t/{scene}.tif" matches 1 file, such as a1.tif',
        'optical: "o/{scene}.tif" matches 2 files, such as b1.tif',
        'scene "b1" has no thermal: no t/b1.tif',
    ]


# Manifests


def test_a_manifest_names_scenes_and_files_from_its_own_folder(tmp_path: Path) -> None:
    make(tmp_path, "lists/t 1.tif", "o/1_4.tif", "o/1_3.tif", "lists/t2.tif", "o/2.tif")
    (tmp_path / "lists/pairs.csv").write_bytes(
        "\ufeffoptical, scene ,thermal\r\n"
        "../o/2.tif,zehn 10,t2.tif\r\n\r\n"
        "../o/1_4.tif; ../o/1_3.tif,zehn 9,t 1.tif\r\n".encode()
    )
    found = discover(tmp_path, {"thermal": [], "optical": []}, "lists/pairs.csv")
    assert names(found) == ["zehn 9", "zehn 10"]
    assert list(found.scenes[0].files) == ["thermal", "optical"]
    assert [path.name for path in found.scenes[0].files["optical"]] == ["1_4.tif", "1_3.tif"]


def test_a_missing_file_of_a_manifest_leaves_out_its_scene(tmp_path: Path) -> None:
    make(tmp_path, "a.tif", "b.tif", "c.tif")
    (tmp_path / "pairs.csv").write_text("scene,t,o\none,a.tif,b.tif\ntwo,c.tif,d.tif\n")
    found = discover(tmp_path, {"t": [], "o": []}, "pairs.csv")
    assert names(found) == ["one"]
    (item,) = found.unmatched
    assert (item.path, item.role, item.scene) == (tmp_path / "d.tif", "o", "two")
    assert item.reason.replace(f"{tmp_path}/", "") == (
        'pairs.csv:3: scene "two": d.tif does not exist (nearest: c.tif)'
    )


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "m.csv: empty: a manifest has the columns scene,t,o"),
        ("scene,t,o\n", "m.csv: names no scene: it has a header only"),
        (
            "scene;t;o\nx;a.tif;b.tif\n",
            "m.csv:1: the columns are separated by semicolons: separate them by commas",
        ),
        (
            "scene\tt\to\nx\ta.tif\tb.tif\n",
            "m.csv:1: the columns are separated by tabs: separate them by commas",
        ),
        ("scene,t\nx,a.tif\n", "m.csv:1: no column o (found scene,t): name the columns in line 1"),
        ("x,a.tif,b.tif\n", 'm.csv:1: unknown column "x"; wanted: scene,t,o'),
        (
            "Scene,t,o\nx,a.tif,b.tif\n",
            'm.csv:1: unknown column "Scene"; did you mean "scene"? wanted: scene,t,o',
        ),
        ("scene,t,t,o\n", "m.csv:1: the column t is there twice: scene,t,t,o"),
        ("scene,t,o\nx,a.tif,\n", "m.csv:2: the cell of o is empty"),
        ("scene,t,o\nx,a.tif,b.tif;\n", "m.csv:2: an empty name in b.tif;"),
        ("scene,t,o\nx,a.tif\n", "m.csv:2: 2 cells in 3 columns; quote a name that has a comma in it"),
        ("scene,t,o\n../x,a.tif,b.tif\n", 'm.csv:2: "../x" can\'t be the name of a scene: it has / in it'),
        ("scene,t,o\n..,a.tif,b.tif\n", 'm.csv:2: ".." can\'t be the name of a scene: it begins with a dot'),
        (
            "scene,t,o\nx,a.tif,b.tif\n\nx,a.tif,b.tif\n",
            'm.csv:4: scene "x" is there twice (first on line 2)',
        ),
        ("scene,t,o\nx,a.tif,a.tif\n", 'm.csv:2: scene "x" has one file for t and o: a.tif'),
        ("scene,t,o\nx,a.tif,nix.tif\n", 'm.csv:2: scene "x": nix.tif does not exist'),
        ('scene,t,o\nx,"a.tif,b.tif\n', "m.csv:2: not valid CSV: unexpected end of data"),
        ("scene,t,o\nx,a.tif,.\n", 'm.csv:2: scene "x": HERE is not a file'),
    ],
)
def test_a_wrong_manifest_is_one_line_with_its_place(tmp_path: Path, text: str, line: str) -> None:
    make(tmp_path, "a.tif", "b.tif")
    (tmp_path / "m.csv").write_text(text)
    (told,) = refused(tmp_path, {"t": [], "o": []}, "m.csv")
    assert told.startswith(line)


def test_a_manifest_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    assert refused(tmp_path, {"t": [], "o": []}, "m.csv") == ["m.csv: no such manifest"]
    assert refused(tmp_path, {"t": [], "o": []}, ".") == ["HERE: can't be read: Is a directory"]
    (tmp_path / "m.csv").write_bytes(b"scene,t,o\n\xe9,a,b\n")
    (line,) = refused(tmp_path, {"t": [], "o": []}, "m.csv")
    assert line == "m.csv: not UTF-8 text (byte 10): save the manifest as UTF-8"


# Real folders


def test_the_landsat_pair_is_found_and_its_quality_band_told() -> None:
    folder = shared_data("geo/pair_landsat8_l2_greenland")
    bands = [f"{{scene}}_SR_B{band}.TIF" for band in (4, 3, 2)]
    found = discover(folder, {"thermal": ["{scene}_ST_B10.TIF"], "optical": bands})
    assert names(found) == ["LC08_L2SP_005009_20150710_20200908_02_T2"]
    assert [item.path.name[-12:] for item in found.unmatched] == ["QA_PIXEL.TIF"]


def test_the_tno_pairs_are_found() -> None:
    folder = shared_data("tno")
    found = discover(folder, {"infrared": ["IR{n}.png"], "visible": ["VIS{n}.png"]})
    assert len(found.scenes) == len(list(folder.glob("IR*.png")))
