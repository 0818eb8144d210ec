from __future__ import annotations

import json
import math
import pickle
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from batchfuse.errors import RecipeError
from batchfuse.profile import BATCH_SYSTEMS, SHIPPED, Profile, WorkerRange, profile_schema
from batchfuse.recipe import Recipe, differences, recipe_schema

TWO = 'inputs: {thermal: "t/{scene}.tif", optical: "o/{scene}.tif"}\n'

CONTRACT = """
inputs:
  thermal: scenes/{scene}_B10.TIF
  optical:
    path:
      - scenes/{scene}_B4.TIF
      - scenes/{scene}_B3.TIF
      - scenes/{scene}_B2.TIF
    bands: [1, 2, 3]
    range: [0, 30000]
    scale: 2.75e-05
    offset: -0.2
    nodata: 0
    crs: EPSG:32632
    volume: null
    labels: false
reference: optical
grid:
  resampling: bilinear
  extent: reference
  mismatch: align
  crs: null
  resolution: null
  bounds: null
validity: any
scaling: scene
fusion:
  method: res2netfuse
  weights: res2netfuse
  strategy: l1
  color: luma
  plane: axial
tiles:
  size: 1024
output:
  path: fused
  dtype: float32
  units: reference
  zarr_format: auto
  shard: null
  pyramid: auto
  also: []
on_error: skip
"""


def load(tmp_path: Path, text: str, *overrides: str) -> Recipe:
    path = tmp_path / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return Recipe.load(path, overrides)


def refused(tmp_path: Path, text: str, *overrides: str) -> list[str]:
    """The lines of the error, without the folder."""
    with pytest.raises(RecipeError) as caught:
        load(tmp_path, text, *overrides)
    return str(caught.value).replace(f"{tmp_path}/", "").splitlines()


def test_the_contracts_recipe_loads_with_its_values(tmp_path: Path) -> None:
    recipe = load(tmp_path, CONTRACT)
    assert recipe.folder == tmp_path
    assert recipe.output_folder == tmp_path / "fused"
    assert recipe.patterns["thermal"] == ("scenes/{scene}_B10.TIF",)
    assert recipe.patterns["optical"][2] == "scenes/{scene}_B2.TIF"
    optical = recipe.inputs["optical"]
    assert (optical.bands, optical.range, optical.scale) == ((1, 2, 3), (0, 30000), 2.75e-05)
    assert (optical.offset, optical.nodata, optical.crs) == (-0.2, 0, "EPSG:32632")
    assert recipe.reference == "optical"


def test_everything_but_the_inputs_has_the_contracts_default(tmp_path: Path) -> None:
    plain = load(tmp_path, TWO).resolved()
    told = load(tmp_path, CONTRACT).resolved()
    for key in ("grid", "validity", "scaling", "fusion", "tiles", "output", "on_error"):
        assert plain[key] == told[key] == yaml.safe_load(CONTRACT)[key]


def test_empty_sections_mean_their_defaults(tmp_path: Path) -> None:
    assert (
        load(tmp_path, TWO + "grid:\nfusion:\noutput: {also: }\n").resolved()
        == load(tmp_path, TWO).resolved()
    )


def test_a_recipe_made_in_python_equals_the_loaded_one(tmp_path: Path) -> None:
    made = Recipe(inputs={"thermal": "t/{scene}.tif", "optical": {"path": "o/{scene}.tif"}}, folder=tmp_path)
    assert made == load(tmp_path, TWO).model_copy(update={"file": None})
    with pytest.raises(
        RecipeError, match=r'^Recipe: fusion.strategey: unknown key .* did you mean "strategy"'
    ):
        Recipe(inputs=made.inputs, fusion={"strategey": "l1"})


def test_a_recipe_is_frozen_and_travels_to_other_processes(tmp_path: Path) -> None:
    recipe = load(tmp_path, CONTRACT)
    with pytest.raises(ValueError, match="frozen"):
        recipe.reference = "thermal"
    assert pickle.loads(pickle.dumps(recipe)) == recipe


def test_the_resolved_recipe_is_json_and_gives_the_same_recipe_again(tmp_path: Path) -> None:
    recipe = load(tmp_path, CONTRACT, "inputs.thermal.nodata=.nan", "inputs.thermal.percentiles=[1, 99]")
    resolved = json.loads(json.dumps(recipe.resolved(), allow_nan=False))
    again = Recipe(**resolved, folder=tmp_path)
    assert again.resolved() == resolved
    assert math.isnan(again.inputs["thermal"].nodata or 0)
    assert resolved["inputs"]["thermal"]["path"] == "scenes/{scene}_B10.TIF"
    assert str(tmp_path) not in json.dumps(resolved)


def test_every_key_of_the_schema_is_described() -> None:
    for schema in (recipe_schema(), profile_schema()):
        json.dumps(schema)
        definitions = schema.get("$defs", {})
        for section in (schema, *definitions.values()):
            for name, key in section.get("properties", {}).items():
                reference = definitions.get(key.get("$ref", "").removeprefix("#/$defs/"), {})
                assert (key.get("description") or reference.get("description", "")).endswith("."), name
        assert "folder" not in schema["properties"]


# Mistakes


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            TWO + "fusion:\n  stategy: l1\n",
            'recipe.yaml:3: fusion.stategy: unknown key (found "l1"); did you mean "strategy"? '
            "allowed: method, weights, strategy, color, plane",
        ),
        (
            TWO + "ouput: 3\n",
            'recipe.yaml:2: ouput: unknown key (found 3); did you mean "output"? allowed: inputs, manifest, '
            "reference, grid, validity, scaling, fusion, tiles, output, on_error",
        ),
        (
            TWO + "folder: /data\n",
            'recipe.yaml:2: folder: unknown key (found "/data"); allowed: inputs, manifest, '
            "reference, grid, validity, scaling, fusion, tiles, output, on_error",
        ),
        (
            TWO + "grid:\n  resampling: bilinar\n",
            'recipe.yaml:3: grid.resampling: found "bilinar"; did you mean "bilinear"? '
            "allowed: nearest, bilinear, cubic, average",
        ),
        (
            TWO + "fusion: l1\n",
            'recipe.yaml:2: fusion: found "l1"; give a mapping with keys among '
            "method, weights, strategy, color, plane",
        ),
        (TWO + "fusion:\n  strategy: [l1]\n", 'found ["l1"]; give a name, or one name with its parameters'),
        (TWO + "reference: optcal\n", 'found "optcal", which is no role; did you mean "optical"?'),
        (
            TWO + "tiles: {size: 8}\n",
            "recipe.yaml:2: tiles.size: found 8; it should be greater than or equal",
        ),
        (TWO + "tiles: {size: 512.5}\n", "tiles.size: found 512.5; it should be a valid integer"),
        (TWO + "tiles: {size: true}\n", "tiles.size: found true; it should be a valid integer"),
        (TWO + "output: {path: ''}\n", 'output.path: found ""; give a path'),
        (TWO + "manifest: pairs.csv\n", "inputs.thermal: has a path beside the manifest: keep one"),
        ("inputs: {a: x, b: {}}", "inputs.b: has no path: give it one, or give the recipe a manifest"),
        ("inputs: {a: x, b: 3}", "inputs.b: found 3; give a path, or a mapping with keys among path, bands"),
        ("inputs: [x, y]", 'inputs: found ["x", "y"]; give a mapping of names to values'),
        ("inputs: {a: x}", "inputs: found 1 of the two or more sources to fuse: name each by its role"),
        ("inputs: {a: x, 2b: y}", "inputs.2b: a role is named by letters, digits, _ and -"),
        ("inputs: {a: x, scene: y}", "inputs.scene: a role is named by"),
        ("inputs: {a: x, b: [y, z, y]}", 'inputs.b.path[2]: "y" is listed twice'),
        ("inputs: {a: x, b: s3://bucket/y.tif}", '"s3://bucket/y.tif": remote files are not built yet'),
        ("inputs: {a: x, b: {path: y, bands: [0]}}", "inputs.b.bands[0]: found 0; it should be greater than"),
        ("inputs: {a: x, b: {path: y, bands: [1, 1]}}", "found [1, 1]; give each band once, counted from 1"),
        ("inputs: {a: x, b: {path: y, bands: []}}", "found []; give each band once, counted from 1"),
        ("inputs: {a: x, b: {path: y, range: [3, 1]}}", "found [3, 1]; give two finite numbers, the lower"),
        ("inputs: {a: x, b: {path: y, range: [1, 1]}}", "found [1, 1]; give two finite numbers, the lower"),
        (
            "inputs: {a: x, b: {path: y, range: [0, .nan]}}",
            "found [0, NaN]; give two finite numbers, the lower",
        ),
        ("inputs: {a: x, b: {path: y, range: [0, .inf]}}", "found [0, Infinity]; give two finite numbers"),
        ("inputs: {a: x, b: {path: y, range: [1, 2, 3]}}", "found [1, 2, 3]; give two numbers, [low, high]"),
        (
            "inputs: {a: x, b: {path: y, range: [false, 3]}}",
            "found [false, 3]; give two numbers, [low, high]",
        ),
        ("inputs: {a: x, b: {path: y, percentiles: [0, 101]}}", "found [0, 101]; percentiles lie between 0"),
        (
            "inputs: {a: x, b: {path: y, range: [0, 1], percentiles: [0, 99]}}",
            "inputs.b.percentiles: given beside range: keep one of the two",
        ),
        ("inputs: {a: x, b: {path: y, scale: 0}}", "inputs.b.scale: found 0; every value would become"),
        (
            "inputs: {a: x, b: {path: y, offset: .inf}}",
            "inputs.b.offset: found Infinity; it should be a finite",
        ),
        ("inputs: {a: x, b: {path: y, crs: 32632}}", "found 32632; write it as text, such as EPSG:32632"),
        ("grid: {}\n", "recipe.yaml: inputs: is missing"),
        ("inputs: {a: x, b: y}\ngrid: {crs: 3035}", "found 3035; write it as text, such as EPSG:3035"),
        ("inputs: {a: x, b: y}\ngrid: {resolution: 0}", "found 0; give one number above 0, or two: [x, y]"),
        ("inputs: {a: x, b: y}\ngrid: {resolution: [10, -10]}", "found [10, -10]; give one number above 0"),
        ("inputs: {a: x, b: y}\ngrid: {resolution: true}", "found true; give one number above 0"),
        ("inputs: {a: x, b: y}\ngrid: {bounds: [0, 0, 1]}", "give four numbers, [left, bottom, right, top]"),
        ("inputs: {a: x, b: y}\ngrid: {bounds: [1, 0, 0, 1]}", "found [1, 0, 0, 1]; give [left, bottom,"),
        (
            "inputs: {a: x, b: y}\ngrid: {extent: union, bounds: [0, 0, 1, 1]}",
            "grid.bounds: given beside `extent: union`: keep one of the two",
        ),
        (
            "inputs: {a: x, b: y}\ngrid: {resolution: 10, bounds: [0, 0, 105, 98]}",
            "is 10.5 x 9.8 pixels of 10 x 10: give a whole number of them, such as [0.0, 8.0, 100.0, 98.0] "
            "or [0.0, -2.0, 110.0, 98.0]",
        ),
        (
            "inputs: {a: x, b: y}\ngrid: {resolution: 1.0e-300, bounds: [0, 0, 105, 98]}",
            "1.05e+302 x 9.8e+301 pixels are too many (at most 1,000,000 along an edge",
        ),
    ],
)
def test_a_wrong_value_is_one_line_with_its_place_and_the_remedy(
    tmp_path: Path, text: str, line: str
) -> None:
    (told,) = refused(tmp_path, text)
    assert told.startswith("recipe.yaml")
    assert line in told


@pytest.mark.parametrize(
    ("output", "line"),
    [
        ("{shard: 256}", "output.shard: shards are of format 3 only: say `zarr_format: 3` beside it"),
        ("{shard: 256, zarr_format: 2}", "output.shard: shards are of format 3 only"),
        (
            "{shard: 300, zarr_format: 3}",
            "output.shard: 300 doesn't divide the shard, which is a tile of 1024: "
            "give a divisor of `tiles.size`, such as 256",
        ),
        ("{shard: 2048, zarr_format: 3}", "such as 1024"),
        ("{shard: 8, zarr_format: 3}", "output.shard: found 8"),
        ("{pyramid: maybe}", "output.pyramid: found"),
        ("{zarr_format: 4}", "output.zarr_format: found 4"),
    ],
)
def test_a_layout_of_chunks_that_cannot_be_is_one_line(tmp_path: Path, output: str, line: str) -> None:
    (told,) = refused(tmp_path, f"{TWO}output: {output}\n")
    assert told.startswith("recipe.yaml:2: ")
    assert line in told


def test_only_what_changes_an_image_or_its_chunks_is_part_of_its_identity(tmp_path: Path) -> None:
    plain = load(tmp_path, TWO).identity()
    assert load(tmp_path, TWO, "output.pyramid=true").identity() == plain
    assert load(tmp_path, TWO, "output.zarr_format=2").identity() == plain
    three = load(tmp_path, TWO, "output.zarr_format=3").identity()
    assert three != plain
    sharded = load(tmp_path, TWO, "output.zarr_format=3", "output.shard=256", "tiles.size=1024")
    assert sharded.identity() not in (plain, three)


def test_several_mistakes_are_told_at_once_a_line_each(tmp_path: Path) -> None:
    lines = refused(tmp_path, TWO + "tiles: {size: x}\nscaling: none\nvalidity: some\n")
    assert [line.split(":")[1] for line in lines] == ["4", "3", "2"]
    many = refused(tmp_path, TWO + "".join(f"wrong{number}: 1\n" for number in range(30)))
    assert len(many) == 11
    assert many[-1] == "… and 20 more"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "recipe.yaml: empty: a recipe is YAML"),
        ("# a comment only\n", "recipe.yaml: empty"),
        ("- a\n- b\n", 'recipe.yaml: found ["a", "b"]; a recipe is a mapping'),
        ("just text", 'recipe.yaml: found "just text"; a recipe is a mapping'),
        (
            "inputs:\n  a: x\n  b: y\n  a: z\n",
            "recipe.yaml:4: inputs.a: given twice (first on line 2): keep one",
        ),
        ("a: 'x", "recipe.yaml:1: not valid YAML: found unexpected end of stream"),
        (
            "inputs:\n\ta: x\n",
            r"recipe.yaml:2: not valid YAML: found character '\t' that cannot start any token",
        ),
        ("a: 1\n---\nb: 2\n", "recipe.yaml:2: not valid YAML: but found another document"),
        ("a: \x01\n", "recipe.yaml: not valid YAML: "),
        ("a: !!python/object/apply:os.system [ls]\n", "recipe.yaml:1: the tag tag:yaml.org,2002:python/"),
        ("a: !!int x\n", 'recipe.yaml:1: "x" can\'t be read as int'),
        (
            "a: &a [1]\nb: *c\n",
            "recipe.yaml:2: not valid YAML: found undefined alias 'c'; quote a path",
        ),
        (
            "inputs:\n  thermal: {scene}\n",
            'recipe.yaml:2: quote a path that begins with {: "{scene}_B10.TIF"',
        ),
        ("inputs:\n  t: {scene}_B10.tif\n  b: x\n", "<scalar>'; quote a path that begins with {"),
        ("inputs:\n  t:\n    path: [{scene}.tif, x]\n", "<scalar>'; quote a path that begins with {"),
        ("inputs:\n  t: */{scene}.tif\n", "but found '/'; quote a path that begins with *"),
        ("a: " + "[" * 500 + "]" * 500, "levels"),
        ("a: " + "[" * 5000 + "]" * 5000, "levels"),
        ("a: &a [*a]\n", "levels, aliases expanded"),
    ],
)
def test_what_is_no_recipe_is_told_with_its_line(tmp_path: Path, text: str, line: str) -> None:
    (told,) = refused(tmp_path, text)
    assert line in told
    assert told.startswith("recipe.yaml:")


def test_aliases_that_multiply_are_refused(tmp_path: Path) -> None:
    text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    for n in range(8):
        text += f"a{n + 1}: &a{n + 1} [" + ", ".join([f"*a{n}"] * 10) + "]\n"
    (line,) = refused(tmp_path, text)
    assert "more than 20000 values" in line


def test_an_alias_repeats_a_value_and_an_override_changes_only_one_of_them(tmp_path: Path) -> None:
    text = "inputs:\n  a: &s {path: x, range: [0, 1]}\n  b: *s\n"
    recipe = load(tmp_path, text, "inputs.b.path=y", "inputs.b.range=[0, 2]")
    assert recipe.patterns == {"a": ("x",), "b": ("y",)}
    assert recipe.inputs["a"].range == (0, 1)


def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    for name, content in (("image.yaml", b"II*\0\xff\xfe"), ("utf16.yaml", "a: 1".encode("utf-16"))):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(RecipeError, match=rf"{name}: not UTF-8 text \(byte .*saved as UTF-8"):
            Recipe.load(tmp_path / name)
    (tmp_path / "large.yaml").write_bytes(b"#" * 300_000)
    with pytest.raises(RecipeError, match=r"large\.yaml: larger than 256 KiB: not a recipe"):
        Recipe.load(tmp_path / "large.yaml")
    with pytest.raises(RecipeError, match=r"none\.yaml: no such recipe file"):
        Recipe.load(tmp_path / "none.yaml")
    with pytest.raises(RecipeError, match="a folder; give the recipe's YAML file in it"):
        Recipe.load(tmp_path)
    with pytest.raises(RecipeError, match="can't be read"):
        Recipe.load("a\0b")


def test_a_byte_order_mark_and_foreign_line_ends_are_read(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + CONTRACT.replace("\n", "\r\n").encode())
    assert Recipe.load(path) == load(tmp_path, CONTRACT)


def test_words_that_yaml_once_took_for_booleans_and_times_are_text(tmp_path: Path) -> None:
    recipe = load(tmp_path, "inputs: {no: 12:30:00, yes: {path: 2015-07-10, scale: 1e-3}}\n")
    assert recipe.patterns == {"no": ("12:30:00",), "yes": ("2015-07-10",)}
    assert recipe.inputs["yes"].scale == 1e-3


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(codec="ascii")),
)


@settings(deadline=None)
@given(st.dictionaries(st.from_regex(r"[a-z]{1,8}", fullmatch=True), SCALARS | st.lists(SCALARS), min_size=1))
def test_yaml_is_read_as_json_writes_it(values: dict[str, object]) -> None:
    from batchfuse.recipe_file import Document

    document = Document("", {}).with_overrides([f"x={json.dumps(values)}"])
    assert document.data["x"] == values


@settings(deadline=None)
@given(st.text(st.sampled_from("ab:{}[]-&*!#'\"\n\t \\,|>%@`0.~?é\x07"), max_size=40))
def test_no_text_gives_anything_but_a_recipe_or_plain_lines(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.yaml"
    for content in (text, TWO + text, "inputs:\n  a: " + text):
        path.write_text(content, encoding="utf-8")
        told = ""
        try:
            Recipe.load(path, [f"inputs.a={text}"] if text else [])
        except RecipeError as error:
            told = str(error)
        assert len(told.split("\n")) <= 11
        assert told.replace("\n", "").isprintable()


KEYS = [
    (name, inner)
    for name, key in recipe_schema()["properties"].items()
    for inner in (
        None,
        *recipe_schema()["$defs"].get(key.get("$ref", "").rpartition("/")[2], {"properties": ()})[
            "properties"
        ],
    )
]
ANY = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**400, -(10**400)])
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["l1", "EPSG:32632", "auto", "nan", "a"]),
    lambda values: (
        st.lists(values, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "path", "to"]), values, max_size=2)
    ),
    max_leaves=4,
)


@given(
    st.sampled_from(KEYS),
    st.sampled_from(list(recipe_schema()["$defs"]["SourceSettings"]["properties"])),
    ANY,
)
@settings(deadline=None, max_examples=200)
def test_no_value_of_any_key_gives_anything_but_a_recipe_or_plain_lines(
    key: tuple[str, str | None], setting: str, value: object
) -> None:
    outer, inner = key
    for data in (
        {"inputs": {"a": "x", "b": "y"}, outer: value if inner is None else {inner: value}},
        {"inputs": {"a": "x", "b": {"path": "y", setting: value}}},
    ):
        told = ""
        try:
            json.dumps(Recipe(**data).identity(), allow_nan=False)
        except RecipeError as error:
            told = str(error)
        assert told.replace("\n", "").isprintable()


# Overrides


def test_an_override_sets_a_value_read_as_yaml(tmp_path: Path) -> None:
    recipe = load(
        tmp_path,
        TWO,
        "fusion.strategy=mean",
        "tiles.size=512",
        "reference=thermal",
        "inputs.thermal.range=[0,1]",
        "inputs.optical=o/{scene}.png",
        "output.path=a=b",
    )
    assert (recipe.fusion.strategy, recipe.tiles.size, recipe.reference) == ("mean", 512, "thermal")
    thermal = recipe.inputs["thermal"]
    assert (thermal.path, thermal.range) == (("t/{scene}.tif",), (0, 1))
    assert recipe.patterns["optical"] == ("o/{scene}.png",)
    assert recipe.output.path == "a=b"


def test_the_last_of_two_overrides_counts(tmp_path: Path) -> None:
    assert load(tmp_path, TWO, "tiles.size=512", "tiles.size=256").tiles.size == 256


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("fusion.stategy=mean", 'fusion.stategy: unknown key (found "mean"); did you mean "strategy"?'),
        (
            "inputs.thermal.rnage=[0, 1]",
            'inputs.thermal.rnage: unknown key (found [0, 1]); did you mean "range"?',
        ),
        ("fusion.strategy", "give it as key.path=value, as in fusion.strategy=mean"),
        ("=mean", "give it as key.path=value"),
        ("a..b=mean", "give it as key.path=value"),
        ("inputs.thermal={scene}.tif", "not valid YAML: "),
        ("inputs.thermal={scene}", "quote a path that begins with {"),
        ("folder=/data", "folder: unknown key"),
    ],
)
def test_a_wrong_override_is_one_line_that_names_it(tmp_path: Path, override: str, line: str) -> None:
    (told,) = refused(tmp_path, TWO, override)
    assert told.startswith(f"--set {override}: ")
    assert line in told


def test_an_override_cannot_go_below_a_value_without_keys(tmp_path: Path) -> None:
    (line,) = refused(tmp_path, TWO + "tiles: {size: 512}\n", "tiles.size.edge=3")
    assert line == "--set tiles.size.edge=3: tiles.size is 512, which has no keys: set it as a whole"


# Identity


def test_the_identity_leaves_out_what_moves_without_changing_a_pixel(tmp_path: Path) -> None:
    recipe = load(tmp_path, CONTRACT)
    other = load(
        tmp_path,
        CONTRACT,
        "inputs.thermal=elsewhere/{scene}.tif",
        "output.path=/elsewhere",
        "fusion.weights=copies/mine.safetensors",
        "on_error=fail",
        "output.zarr_format=2",
        "output.pyramid=false",
    )
    assert differences(recipe.identity(), other.identity()) == []
    assert "elsewhere" not in json.dumps(other.identity())


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("fusion.strategy=mean", "fusion.strategy: l1 in the store, mean in the recipe"),
        ("tiles.size=512", "tiles.size: 1024 in the store, 512 in the recipe"),
        (
            "inputs.optical.range=[0, 1]",
            "inputs.optical.range: [0.0, 30000.0] in the store, [0.0, 1.0] in the recipe",
        ),
        ("inputs.thermal.nodata=.nan", "inputs.thermal.nodata: nothing in the store, nan in the recipe"),
        ("reference=thermal", "reference: optical in the store, thermal in the recipe"),
        ("validity=all", "validity: any in the store, all in the recipe"),
        ("grid.resampling=cubic", "grid.resampling: bilinear in the store, cubic in the recipe"),
        ("output.dtype=uint16", "output.dtype: float32 in the store, uint16 in the recipe"),
        ("output.units=unit", "output.units: reference in the store, unit in the recipe"),
    ],
)
def test_what_changes_a_store_is_named(tmp_path: Path, override: str, line: str) -> None:
    stored = json.loads(json.dumps(load(tmp_path, CONTRACT).identity(), allow_nan=False))
    assert differences(stored, load(tmp_path, CONTRACT, override).identity()) == [line]


def test_the_order_of_the_sources_is_part_of_the_identity() -> None:
    forth = Recipe(inputs={"a": "x", "b": "y"})
    back = Recipe(inputs={"b": "y", "a": "x"})
    assert differences(forth.identity(), back.identity()) == [
        'roles: ["a", "b"] in the store, ["b", "a"] in the recipe'
    ]


# Profiles


def test_the_laptop_profile_is_the_default() -> None:
    assert Profile.load("laptop").resolved() == Profile().resolved()


def test_a_profile_file_is_read_and_checked(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("threads: 2\ndevice: cuda:1\n")
    profile = Profile.load(path)
    assert (profile.threads, profile.device) == (2, "cuda:1")
    path.write_text(
        "cluster: slurm\nworkers: 0\nthreads: 0\nmemory: lots\ndevice: gpu\nprecision: float16\nwalltime: 1\n"
    )
    with pytest.raises(RecipeError) as caught:
        Profile.load(path)
    lines = str(caught.value).replace(f"{tmp_path}/", "").splitlines()
    assert lines == [
        "mine.yaml:2: workers: found 0; give auto, or a number from 1 to 1024",
        "mine.yaml:3: threads: found 0; give auto, or a number from 1 to 1024",
        'mine.yaml:4: memory: found "lots"; give a number with its unit, such as 16GB, 1.5 GiB or 800MB',
        'mine.yaml:5: device: found "gpu"; allowed: auto, cpu, cuda, cuda:N, mps',
        'mine.yaml:6: precision: "float16" is not built yet; what works now: auto, float32',
        "mine.yaml:7: walltime: unknown key (found 1); allowed: "
        "cluster, workers, threads, memory, device, precision, options",
    ]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("workers: 2", "workers: found 2, but threads are of one process: say `cluster: processes`"),
        ("cluster: tcp://a:1\nthreads: 2", "threads: a scheduler's workers are started elsewhere"),
        ("cluster: tcp://a:1\nworkers: 2", "workers: a scheduler's workers are started elsewhere"),
        ("cluster: procceses", 'cluster: found "procceses"; did you mean "processes"?'),
        ("cluster: tcp://a", 'cluster: found "tcp://a"'),
        ("cluster: slrum", 'cluster: found "slrum"; did you mean "slurm"?'),
        (
            "cluster: slurm\noptions: {memory: 1GB}",
            "options.memory: can't be given here: say `memory`",
        ),
        (
            "cluster: slurm\nworkers: {minimum: 3, maximum: 2}",
            "found {minimum: 3, maximum: 2}; give {minimum",
        ),
        ("cluster: slurm\nworkers: {maximum: 0}", "give {minimum: 0, maximum: 20}"),
        ("cluster: processes\nworkers: {maximum: 2}", "workers of processes don't come and go"),
        ("cluster: a.Cluster\nthreads: 2", "a.Cluster has a name of its own for it: say it in `options`"),
        ("cluster: a.Cluster\nmemory: 2GB", "a.Cluster has a name of its own for it: say it in `options`"),
        ("options: {queue: debug}", "options.queue: is no option here: threads takes none"),
        ("cluster: tls://a:1\noptions: {tls_ca: x}", "tls_ca_file, tls_client_cert, tls_client_key"),
        ("cluster: tls://a:1\noptions: {tls_ca_file: 1}", "options.tls_ca_file: found 1; give a path"),
        ("folder: /tmp", "folder: unknown key"),
    ],
)
def test_a_profile_that_contradicts_itself_is_one_line(tmp_path: Path, text: str, line: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError) as caught:
        Profile.load(path)
    assert line in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("name", sorted(path.stem for path in SHIPPED.glob("*.yaml")))
def test_the_shipped_profiles_load(name: str) -> None:
    profile = Profile.load(name)
    assert profile.cluster in ("threads", "processes", "cuda", *BATCH_SYSTEMS)
    assert profile.numbers(gpus=2)[1] >= 1


def test_workers_may_come_and_go() -> None:
    profile = Profile(cluster="slurm", workers={"minimum": 1, "maximum": 20}, threads=8)
    assert profile.worker_range == WorkerRange(minimum=1, maximum=20)
    assert profile.numbers() == (20, 8)
    assert Profile(cluster="slurm", workers=3).numbers() == (3, 4)
    assert Profile(**profile.resolved()) == profile


def test_a_scheduler_is_a_profile_of_its_own() -> None:
    for name in ("tcp://scheduler:8786", "tls://10.0.0.1:8786", "scheduler.json"):
        assert Profile.load(name) == Profile(cluster=name)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("lpatop", 'profile "lpatop": no shipped profile has this name; did you mean "laptop"?'),
        ("http://scheduler:8786", 'profile "http://scheduler:8786" is no scheduler\'s address'),
        ("none.yaml", "none.yaml: no such profile file"),
    ],
)
def test_an_unknown_profile_is_one_line(name: str, line: str) -> None:
    with pytest.raises(RecipeError) as caught:
        Profile.load(name)
    assert line in str(caught.value)
