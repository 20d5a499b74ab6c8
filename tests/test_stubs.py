"""_C.pyi says what the compiled module has; what type checkers need is in the package; importing it loads little."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from importlib import resources

import pytest

import simgan_fast
from simgan_fast import _native

KINDS = {"int": "SupportsInt", "list": "list", "bool": "bool", "Tensor": "object"}
# What a whole job needs and the models do not: each takes long to import.
HEAVY = (
    "pyarrow",
    "PIL",
    "scipy",
    "h5py",
    "huggingface_hub",
    "tensorboard",
    "nvidia.dali",
    "flask",
    "torch._dynamo",
)


def stub() -> dict[str, ast.FunctionDef]:
    text = resources.files(simgan_fast).joinpath("_C.pyi").read_text()
    return {node.name: node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)}


def kind(annotation: ast.expr | None) -> str:
    assert annotation is not None
    return ast.unparse(annotation).removesuffix(" | None").partition("[")[0]


def arguments(signature: str) -> list[str]:
    """The types of pybind11's `name(arg0: type, arg1: type) -> type`."""
    return re.split(r"arg\d+: ", signature.partition("(")[2].rpartition(") -> ")[0])[1:]


@pytest.mark.skipif(not _native.AVAILABLE, reason="no native part")
def test_the_stub_is_the_module() -> None:
    functions = stub()
    found = {name for name in dir(_native.C) if not name.startswith("__")}
    assert found == {*functions, "Scratch"}
    for name, function in functions.items():
        signature = getattr(_native.C, name).__doc__.strip()
        taken = arguments(signature)
        assert len(function.args.posonlyargs) == len(taken), name
        for argument, native in zip(function.args.posonlyargs, taken, strict=True):
            outer = native.removeprefix("typing.Annotated[").partition("[")[0]
            assert KINDS[kind(argument.annotation)] in outer, (name, argument.arg, native)
        assert kind(function.returns) == signature.rpartition(" -> ")[2].partition("[")[0], name


def test_the_package_is_typed() -> None:
    assert resources.files(simgan_fast).joinpath("py.typed").is_file()


def test_importing_loads_no_more_than_the_models_need(run_python: Callable[..., str]) -> None:
    script = "import sys, simgan_fast; print(*sys.modules)"
    loaded = set(run_python(script).split())
    assert not loaded.intersection(HEAVY)


def test_every_promised_name_is_there() -> None:
    for name in simgan_fast.__all__:
        assert getattr(simgan_fast, name) is not None and name in dir(simgan_fast)
    with pytest.raises(AttributeError, match="no attribute 'polish'"):
        _ = simgan_fast.polish
