"""What may import what; and that importing mlpipe costs nothing."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import mlpipe

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "mlpipe"

# From the ground up; imports point down, and never sideways to a neighbour in the same row.
LAYERS = (
    ("errors",),
    ("declare", "keys", "verbs"),
    ("kernels",),
    ("measure",),
    ("buffers", "workers"),
    ("link", "opening"),
    ("npy_format",),
    ("readers", "writers"),
    ("counting", "statistics"),
    ("stages",),
    ("pipeline", "registry"),
    ("config", "engine"),
    ("api", "chain", "nearest", "radius"),
    ("bench", "report"),
    ("predicting",),
    ("cli",),
)
HEIGHTS = {name: height for height, layer in enumerate(LAYERS) for name in layer}
MODULES = [
    path for path in sorted(PACKAGE.rglob("*.py")) if path not in (PACKAGE / "__init__.py", PACKAGE / "__main__.py")
]
IMPORT_NAMES = {"memory-profiler": "memory_profiler", "tomli-w": "tomli_w"}

# Packages that only an extra brings: what each is for, and the one file that imports it.
EXTRAS = {
    "datasketches": ("sketches", "counting/sketches.py"),
    "line_profiler": ("lines", "measure/lines.py"),
    "matplotlib": ("plot", "report/plot.py"),
    "pyarrow": ("parquet", "writers/parquet.py"),
}


# Packages that `mlpipe bench` compares with where they happen to be installed, and the one file that imports each.
COMPARED = {
    "grain": "bench/grain_loader.py",
    "torch": "bench/torch_loader.py",
}


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            if node.module in ("mlpipe", *(f"mlpipe.{name}" for name in HEIGHTS)):
                yield from (f"{node.module}.{alias.name}" for alias in node.names)
            else:
                yield node.module or ""


def imports_when_loaded(path: Path) -> set[str]:
    """Top names of what is imported outside functions and of `if TYPE_CHECKING`."""
    waiting: list[ast.AST] = [ast.parse(path.read_text())]
    found = set()
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").split(".")[0])
        checking = isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        if not checking and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            waiting += ast.iter_child_nodes(node)
    return found


def layer_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def named(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def test_every_module_has_a_layer() -> None:
    assert {layer_of(path) for path in MODULES} - HEIGHTS.keys() == set()


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_imports_point_down(path: Path) -> None:
    own = layer_of(path)
    inside = [name.split(".")[1] for name in imports(path) if name.startswith("mlpipe.")]
    wrong = [name for name in inside if name not in (own, "__version__") and HEIGHTS.get(name, 0) >= HEIGHTS[own]]
    assert wrong == []


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_packages_from_outside_stay_where_they_belong(path: Path) -> None:
    outside = {name.split(".")[0] for name in imports(path)} - sys.stdlib_module_names - {"mlpipe"}
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    packages = {name.split(">")[0] for name in declared}
    known = {IMPORT_NAMES.get(name, name) for name in packages} | {"llvmlite"}  # Numba brings llvmlite
    assert outside - known - EXTRAS.keys() - COMPARED.keys() == set()
    if layer_of(path) not in ("cli", "report"):
        assert outside & {"typer", "rich"} == set()
    if layer_of(path) != "kernels" and named(path) != "cli/doctor.py":
        assert outside & {"numba", "llvmlite"} == set()
    if named(path) != "measure/memory.py":
        assert "memory_profiler" not in outside


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_what_an_extra_brings_is_imported_by_its_owner_alone_and_when_it_is_needed(path: Path) -> None:
    owners = {**{package: owner for package, (_, owner) in EXTRAS.items()}, **COMPARED}
    used = imports_when_loaded(path) & owners.keys()
    assert used == set(), "import it in the function that needs it: the extra may not be installed"
    outside = {name.split(".")[0] for name in imports(path)} & owners.keys()
    assert {name for name in outside if owners[name] != named(path)} == set()


def test_every_extra_is_declared_and_tested() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for package, (extra, _) in EXTRAS.items():
        assert [name.split(">")[0] for name in declared[extra]] == [package]
    everything = ",".join(sorted(extra for extra, _ in EXTRAS.values()))
    assert declared["all"] == [f"mlpipe[{everything}]"]
    assert "mlpipe[all]" in declared["test"]


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_no_input_is_ever_unpickled(path: Path) -> None:
    # Only the cache of compiled kernels, a directory nobody else can write to, holds pickles.
    if named(path) != "kernels/_jit.py":
        assert {"pickle", "marshal", "shelve", "dill", "cloudpickle"} & set(imports(path)) == set()
        assert "allow_pickle=True" not in path.read_text()


def test_importing_mlpipe_loads_neither_numpy_nor_numba() -> None:
    code = "import sys, mlpipe; sys.exit(', '.join({'numpy', 'numba', 'typer', 'rich'} & set(sys.modules)) or None)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", mlpipe.__all__)
def test_every_public_name_can_be_had(name: str) -> None:
    assert name in dir(mlpipe)
    assert getattr(mlpipe, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'mlpipe' has no attribute 'nonsense'"):
        _ = mlpipe.nonsense


def test_type_checkers_see_the_lazy_names() -> None:
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    guarded = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.asname or alias.name: (node.module, alias.name)
        for node in guarded.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == mlpipe._LAZY
