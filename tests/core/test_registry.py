import dataclasses
import sys
import textwrap

import pytest

from nasplug import registry
from nasplug.errors import InputError, MissingDependencyError, UnknownNameError
from nasplug.registry import Spec, configure, load, names, option_defaults
from nasplug.spaces import NASBench201

PLUGINS = '''
import dataclasses
from typing import Any, ClassVar, Literal

@dataclasses.dataclass(frozen=True, kw_only=True)
class Toy:
    """A strategy of another package."""
    space: Any
    batch: int = 10
    rate: float = 0.1
    kind: Literal["mlp", "ridge"] = "mlp"
    limit: int | None = None
    mixed: Literal["auto"] | int = "auto"
    fancy: bool = False
    label: str = ""
    free: Any = None
    hidden: ClassVar[int] = 3

class Plain:
    """A space written as an ordinary class."""
    width: ClassVar[int] = 3
    def __init__(self, size: int, *more: int, label: str = "x", **rest: int):
        self.size, self.label = size, label

def function(space: object, order: int = 1) -> tuple:
    return space, order

not_typed = lambda first: first
'''


@pytest.fixture
def plugins(tmp_path, monkeypatch):
    """A second installed package that registers plugins; the registry is read afresh before and after."""
    (tmp_path / "toyplugins.py").write_text(PLUGINS)
    (tmp_path / "needy.py").write_text("import a_package_that_nobody_has")
    (tmp_path / "broken.py").write_text("import nasplug.no_such_room")
    info = tmp_path / "toyplugins-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toyplugins\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        textwrap.dedent(
            """
            [nasplug.strategies]
            toy = toyplugins:Toy
            toy-function = toyplugins:function
            not-typed = toyplugins:not_typed
            needy = needy:Anything
            broken = broken:Anything
            [nasplug.spaces]
            plain = toyplugins:Plain
            """
        )
    )
    monkeypatch.syspath_prepend(tmp_path)
    registry._entries.cache_clear()
    yield info / "entry_points.txt"
    registry._entries.cache_clear()
    for name in ("toyplugins", "needy", "broken"):
        sys.modules.pop(name, None)


# -- the written form ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name", "positional", "options"),
    [
        ("weaknas", "weaknas", (), {}),
        (" weaknas: ", "weaknas", (), {}),
        ("optuna:tpe", "optuna", ("tpe",), {}),
        ("w:predictor=mlp,batch=10", "w", (), {"predictor": "mlp", "batch": 10}),
        ("w:a=0.5, b=true ,c=null,d=-3,e='7'", "w", (), {"a": 0.5, "b": True, "c": None, "d": -3, "e": "7"}),
        ("w:a=1e-3,b=2.5E4,c=1e", "w", (), {"a": 1e-3, "b": 2.5e4, "c": "1e"}),
        ("w:3,a=x=y", "w", (3,), {"a": "x=y"}),
    ],
)
def test_parse(text, name, positional, options):
    spec = Spec.parse(text)
    assert (spec.name, spec.positional, spec.options) == (name, positional, options)
    assert [type(v) for v in spec.options.values()] == [type(v) for v in options.values()]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected NAME"),
        (":a=1", "expected NAME"),
        ("w:a=1,a=2", "given twice"),
        ("w:a=[1", "cannot read the option"),
    ],
)
def test_parse_refuses(text, message):
    with pytest.raises(InputError, match=message):
        Spec.parse(text)


# -- names and loading -----------------------------------------------------------------------------------------------


def test_our_own_plugins_are_registered_and_load():
    assert {"nasbench201", "nasbench-graph", "nasbench-graph-proteins", "nasbench-macro", "darts"} <= set(
        names("space")
    )
    assert names("space") == sorted(names("space"))
    assert load("space", "nasbench201") is NASBench201
    for role in ("space", "strategy"):
        for name in names(role):
            assert callable(load(role, name))


def test_an_unknown_name_is_answered_with_near_ones():
    with pytest.raises(UnknownNameError, match="unknown space 'nasbench-201'; did you mean nasbench201"):
        load("space", "nasbench-201")


def test_another_package_adds_plugins_without_import(plugins):
    assert {"toy", "random"} <= set(names("strategy"))
    assert "toyplugins" not in sys.modules
    assert load("strategy", "toy").__name__ == "Toy"


def test_a_missing_package_is_named(plugins):
    with pytest.raises(
        MissingDependencyError, match="strategy 'needy' needs the package 'a_package_that_nobody_has'; install"
    ):
        load("strategy", "needy")


def test_a_missing_package_of_ours_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    for name in [name for name in sys.modules if name.startswith("nasplug.plugins.optuna")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(MissingDependencyError, match=r"needs the package 'optuna'; pip install 'nasplug\[optuna\]'"):
        load("strategy", "optuna")
    assert registry._remedy("plotly.graph_objects") == "pip install 'nasplug[report]'"


def test_a_hole_in_our_own_package_is_no_missing_dependency(plugins):
    with pytest.raises(ModuleNotFoundError) as caught:
        load("strategy", "broken")
    assert not isinstance(caught.value, MissingDependencyError)


def test_one_name_in_two_packages_is_refused(plugins):
    plugins.write_text(plugins.read_text() + "nasbench201 = toyplugins:Plain\n")
    registry._entries.cache_clear()
    with pytest.raises(InputError, match="two installed packages register the space 'nasbench201'"):
        names("space")


# -- options ---------------------------------------------------------------------------------------------------------


def test_options_reach_the_plugin(plugins):
    toy = configure("strategy", "toy:20,rate=1,kind=ridge,limit=null,mixed=4,fancy=true,label=a,free=b", "the space")
    expected = {"space": "the space", "batch": 20, "rate": 1.0, "kind": "ridge", "limit": None}
    expected |= {"mixed": 4, "fancy": True, "label": "a", "free": "b"}
    assert dataclasses.asdict(toy) == expected
    assert type(toy.rate) is float
    assert configure("strategy", Spec("toy", options={"limit": 3, "mixed": "auto"}), None).limit == 3
    assert configure("strategy", "toy-function:order=2", "s") == ("s", 2)
    assert configure("strategy", "not-typed", 5) == 5
    plain = configure("space", "plain:4,label=z")
    assert (plain.size, plain.label) == (4, "z")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("toy:bach=3", "unknown option of strategy 'toy' 'bach'; did you mean batch"),
        ("toy:space=3", "unknown option of strategy 'toy' 'space'"),
        ("toy:hidden=3", "unknown option of strategy 'toy' 'hidden'"),
        ("toy:=3", "unknown option"),
        ("toy:kind=mpl", "unknown value for option 'kind' of strategy 'toy' 'mpl'; did you mean mlp"),
        ("toy:batch=ten", "option 'batch' of strategy 'toy' must be int, got 'ten'"),
        ("toy:batch=1.5", "must be int, got 1.5"),
        ("toy:batch=true", "must be int, got True"),
        ("toy:batch=null", "must be int, got None"),
        ("toy:rate=true", "must be float, got True"),
        ("toy:rate=fast", "must be float, got 'fast'"),
        ("toy:fancy=1", "must be bool, got 1"),
        ("toy:label=1", "must be str, got 1"),
        ("toy:limit=a", "must be int or null, got 'a'"),
        ("toy:3,batch=4", "option 'batch' of strategy 'toy' is given twice"),
        ("toy:1,2,mlp,4,5,true,g,h,i", "takes at most 8 options"),
    ],
)
def test_a_bad_option_says_what_is_wrong(plugins, spec, message):
    with pytest.raises(InputError, match=message):
        configure("strategy", spec, "the space")


def test_an_option_without_default_is_asked_for(plugins):
    with pytest.raises(InputError, match="space 'plain' needs the option 'size': plain:size=VALUE"):
        configure("space", "plain:label=z")


def test_class_variables_and_star_arguments_are_no_options(plugins):
    for key in ("width", "more", "rest", "self"):
        with pytest.raises(UnknownNameError, match=f"unknown option of space 'plain' '{key}'"):
            configure("space", f"plain:4,{key}=3")
    with pytest.raises(UnknownNameError, match="encodings"):
        configure("space", "nasbench201:encodings=3")


def test_option_defaults(plugins):
    defaults = option_defaults("strategy", "toy")
    assert list(defaults) == ["batch", "rate", "kind", "limit", "mixed", "fancy", "label", "free"]
    assert defaults["batch"] == 10
    assert option_defaults("space", "plain") == {"size": None, "label": "x"}
