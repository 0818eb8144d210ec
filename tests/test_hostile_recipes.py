"""Recipes, profiles and manifests made to harm: each is refused in a line, soon, and runs nothing."""

from __future__ import annotations

import os
import resource
import socket
import sys
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from batchfuse.errors import RecipeError
from batchfuse.imagery.geotiff import checked_crs
from batchfuse.imagery.manifest import read_manifest
from batchfuse.plan import make_plan
from batchfuse.profile import Profile
from batchfuse.recipe import Recipe

TWO = b'inputs: {a: "t/{scene}.tif", b: "o/{scene}.tif"}\n'
LAUGHS = b"a: &a [x,x,x,x,x,x,x,x,x]\n" + b"".join(
    b"%c: &%c [%s]\n" % (98 + i, 98 + i, b",".join([b"*%c" % (97 + i)] * 9)) for i in range(20)
)
HOSTILE = {
    "a billion laughs": LAUGHS,
    "an alias in itself": b"a: &a {b: *a}",
    "10 MB": TWO + b"#" * 10_000_000,
    "deep lists, open": b"[" * 100_000,
    "deep mappings, open": b"{a: " * 50_000,
    "deep lists": b"a: " + b"[" * 2000 + b"]" * 2000,
    "deep blocks": b"\n".join(b" " * i + b"a:" for i in range(500)),
    "dashes": b"- " * 100_000 + b"a",
    "NUL": b"a: \0",
    "a control character": b'a: "\x01"',
    "a control character in a path": b'inputs: {a: "a\\0/{scene}.tif", b: "o/{scene}.tif"}',
    "UTF-16": TWO.decode().encode("utf-16"),
    "no UTF-8": b"a: \xff\xfe",
    "half a character": b'inputs: {a: "\\ud800/{scene}.tif", b: "o/{scene}.tif"}',
    "half a character in a key": TWO + b'"\\ud800": 1',
    "a key twice": TWO + TWO,
    "a merge key": TWO + b"tiles: {<<: {size: 64}}",
    "a list as a key": b"? [a, b]\n: 1",
    "a huge integer": TWO + b"tiles: {size: " + b"9" * 100_000 + b"}",
    "a huge hexadecimal integer": TWO + b"tiles: {size: 0x" + b"f" * 10_000 + b"}",
    "a large integer": TWO + b"tiles: {size: " + b"9" * 300 + b"}",
    "a huge float": TWO + b"grid: {resolution: 1e99999999}",
    "a long text": TWO + b'fusion: {strategy: "' + b"(" * 100_000 + b'"}',
    "many unknown keys": TWO + b"".join(b"k%05dstrategy: 1\n" % i for i in range(10_000)),
    "many roles": b"inputs: {" + b", ".join(b"r%d: x" % i for i in range(6000)) + b"}",
    "a tag that calls": b'a: !!python/object/apply:os.system ["touch TOUCHED"]',
    "a tag that names": b"!!python/name:os.system : 1",
    "a tag that makes": b'a: !!python/object/new:os.system ["touch TOUCHED"]',
    "a tag of one's own": b"%TAG ! tag:yaml.org,2002:python/\n---\na: !name:os.system x",
    "two documents": b"a: 1\n---\nb: 2",
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("kind", [Recipe, Profile])
def test_a_hostile_file_is_refused_in_short_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[Recipe | Profile], content: bytes
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "hostile.yaml"
    path.write_bytes(content)
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with pytest.raises(RecipeError) as caught:
        kind.load(path)
    assert time.process_time() - start < 5
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 200 * (1024 if sys.platform == "linux" else 1024**2)
    lines = str(caught.value).splitlines()
    assert len(lines) <= 11
    assert all(len(line) < 1100 + len(str(path)) for line in lines)
    str(caught.value).encode()
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("read", [Recipe.load, Profile.load, lambda path: read_manifest(path, ["a", "b"])])
def test_a_pipe_is_not_waited_for(tmp_path: Path, read: object) -> None:
    path = tmp_path / "pipe.yaml"
    os.mkfifo(path)
    with pytest.raises(RecipeError, match="a pipe or a device"):
        read(path)  # type: ignore[operator]


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/urandom"])
def test_a_device_is_no_recipe_and_no_manifest(path: str) -> None:
    with pytest.raises(RecipeError, match="a pipe or a device"):
        Recipe.load(path)
    with pytest.raises(RecipeError, match="a pipe or a device"):
        read_manifest(Path(path), ["a", "b"])


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"scene,a,b\n" + b"x" * 20_000_000, "larger than 16 MiB"),
        (b"scene,a,b\nx,\0,b\n", ":2: the cell of a has control characters in it"),
        (b'scene,a,b\nx,"a\nb",b\n', "control characters"),
        (b"scene,a,b\n../x,a,b\n", "can't be the name of a scene"),
        (b"scene,a,b\nx,/vsicurl/http://h/a.tif,b\n", "a.tif does not exist"),
        (b"scene,a,b\nx," + b"a" * 200_000 + b",b\n", "not valid CSV: field larger than field limit"),
        (b"scene,a,b\nx," + b"a" * 100_000 + b",b\n", "is longer than 4096 bytes"),
        (b"scene,a,b\nx,${HOME}/a,$HOME/b\n", "${HOME}/a does not exist"),
    ],
)
def test_a_hostile_manifest_is_refused_in_a_line(tmp_path: Path, content: bytes, line: str) -> None:
    (tmp_path / "m.csv").write_bytes(content)
    with pytest.raises(RecipeError) as caught:
        make_plan(Recipe(inputs={"a": {}, "b": {}}, manifest="m.csv", folder=tmp_path))
    assert line in str(caught.value)
    assert len(str(caught.value)) < 1500


@pytest.mark.parametrize("name", ["\0", "/dev/zero", "x" * 5000, "/proc/self/mem", "."])
def test_hostile_names_of_weights_are_refused_in_a_line(tmp_path: Path, name: str) -> None:
    recipe = Recipe(inputs={"a": "a.tif", "b": "b.tif"}, folder=tmp_path, fusion={"weights": name})
    with pytest.raises(RecipeError, match="weights") as caught:
        make_plan(recipe)
    assert len(str(caught.value).splitlines()) == 1


def test_no_variable_of_the_environment_gets_into_a_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "expanded")
    (tmp_path / "recipe.yaml").write_text("inputs: {a: '$SECRET/x', b: '${SECRET}'}\nreference: b\n")
    recipe = Recipe.load(tmp_path / "recipe.yaml", ["output.path=$SECRET"])
    assert "expanded" not in str(recipe)


def test_a_crs_is_not_looked_up_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # if it were, GDAL would hold the interpreter and wait: nobody answers here
    monkeypatch.setenv("GDAL_HTTP_TIMEOUT", "2")
    (tmp_path / "crs.txt").write_text("EPSG:32632")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.settimeout(0.1)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/x"
        for text in (url, f"/vsicurl/{url}", f"/vsicurl_streaming/{url}", str(tmp_path / "crs.txt")):
            with pytest.raises(RecipeError, match="is no known CRS"):
                checked_crs(text, "grid.crs")
        with pytest.raises(TimeoutError):
            listener.accept()
    for text in ("EPSG:32632", "urn:ogc:def:crs:EPSG::32632", "IGNF:UTM32W84"):
        assert "UTM" in checked_crs(text, "grid.crs")


KEYS = """inputs path bands range scale nodata mask labels reference grid crs resolution bounds extent fusion
strategy weights tiles size output dtype also to shard pyramid on_error manifest scaling validity cog png
nifti auto a.tif {scene}.tif scene campaign cluster workers options l1 mean"""
WORDS = st.sampled_from(KEYS.split())
VALUES = st.recursive(
    WORDS
    | st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=5),
    max_leaves=12,
)


@settings(max_examples=400)
@given(
    st.dictionaries(WORDS, VALUES, max_size=6),
    st.booleans(),
    st.lists(st.tuples(st.integers(0, 2000), st.binary(max_size=3)), max_size=2),
)
def test_any_file_is_a_recipe_or_a_refusal(
    tmp_path_factory: pytest.TempPathFactory,
    data: dict[str, object],
    whole: bool,
    changes: list[tuple[int, bytes]],
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    given_inputs = {"inputs": {"a": "a/{scene}.tif", "b": {"path": "b/{scene}.tif"}}} if whole else {}
    content = bytearray(yaml.safe_dump({**given_inputs, **data}, allow_unicode=True).encode())
    for place, change in changes:
        content[place : place + len(change)] = change
    path.write_bytes(content)
    for load in (Recipe.load, Profile.load):
        try:
            load(path)
        except RecipeError as error:
            told = str(error)
        else:
            continue
        assert 1 <= len(told.splitlines()) <= 11
        told.encode()
