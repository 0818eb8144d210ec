from __future__ import annotations

import pickle
import subprocess
import sys
from importlib.metadata import EntryPoint
from types import SimpleNamespace

import pytest

from batchfuse.errors import RecipeError
from batchfuse.fusion import methods
from batchfuse.fusion.layers import DECODER_RADIUS, ENCODER_RADIUS, RADIUS, Layer, radius
from batchfuse.fusion.methods import Method, Strategy, all_methods, method, register

OTHER = Method("other", "somewhere:Fuser", {"only": Strategy("only", 3, None, "a test")}, "none")


@pytest.fixture
def registered(monkeypatch):
    monkeypatch.setattr(methods, "_REGISTERED", dict(methods._REGISTERED))


@pytest.fixture
def offered(monkeypatch):
    """Lets a test offer objects as entry points of other packages."""

    def offer(**points):
        found = [SimpleNamespace(name=n, value="package:it", load=lambda p=p: p) for n, p in points.items()]
        monkeypatch.setattr(methods, "entry_points", lambda group: found if group else [])

    return offer


def test_the_radius_of_the_layers_is_that_of_the_paper():
    assert (ENCODER_RADIUS, DECODER_RADIUS, RADIUS) == (8, 4, 12)


def test_the_radius_grows_with_the_kernels():
    assert radius([Layer("a", (1, 1), 3), Layer("b", (1, 1), 1), Layer("c", (1, 1), 7)]) == 4


@pytest.mark.parametrize(("name", "survey"), [("l1", None), ("mean", 8), ("average", None), ("detail", 0)])
def test_a_strategy_knows_its_halo_and_what_its_survey_reads(name, survey):
    strategy = method("res2netfuse").strategy(name)
    assert strategy.survey_halo == survey
    assert 12 <= strategy.halo <= 20
    assert strategy.halo == 12 or name == "detail"


def test_an_unknown_method_is_refused_with_the_nearest_name():
    with pytest.raises(RecipeError, match=r"'res2netfus'.*did you mean 'res2netfuse'"):
        method("res2netfus")


def test_an_unknown_strategy_is_refused_with_the_nearest_name():
    with pytest.raises(RecipeError, match=r"no strategy 'averag'.*did you mean 'average'"):
        method("res2netfuse").strategy("averag")


@pytest.mark.usefixtures("registered")
def test_a_registered_method_is_found_and_listed():
    register(OTHER)
    assert method("other") is OTHER
    assert [m.name for m in all_methods()] == ["res2netfuse", "other"]


def test_a_method_of_an_entry_point_is_found_and_listed(offered):
    offered(other=OTHER)
    assert method("other") is OTHER
    assert [m.name for m in all_methods()] == ["res2netfuse", "other"]


def test_a_registered_method_hides_an_entry_point_of_its_name(offered):
    offered(res2netfuse=OTHER)
    assert [m.name for m in all_methods()] == ["res2netfuse"]


def test_an_entry_point_that_gives_something_else_is_one_line(offered):
    offered(other=42)
    with pytest.raises(RecipeError, match="gives a int, not a"):
        method("other")


def test_an_entry_point_that_does_not_load_is_one_line(monkeypatch):
    point = EntryPoint("broken", "there.is.no.such:thing", methods.ENTRY_POINTS)
    monkeypatch.setattr(methods, "entry_points", lambda group: [point] if group else [])
    with pytest.raises(RecipeError, match=r"'broken' of there\.is\.no\.such:thing does not load"):
        method("broken")


def test_a_method_can_be_pickled():
    copy = pickle.loads(pickle.dumps(method("res2netfuse")))
    assert copy == method("res2netfuse")


def test_the_strategies_of_a_method_can_not_be_altered():
    with pytest.raises(TypeError):
        method("res2netfuse").strategies["l1"] = None


def test_plain_data_needs_no_torch():
    code = (
        "import sys, batchfuse.fusion.methods, batchfuse.fusion.shipped, batchfuse.fusion.extremes, "
        "batchfuse.fusion.fuser, batchfuse.fusion.color, batchfuse.fusion.arrays; "
        "batchfuse.fusion.methods.all_methods(); batchfuse.fusion.shipped.weights_checksum('res2netfuse'); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
