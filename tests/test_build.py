"""What setup.py builds, with a C compiler and without one, from the source tree alone."""

import ast
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest
from cells import python

SOURCE = Path(__file__).parents[1]
COMPILER = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]


@pytest.fixture(scope="module")
def setup():
    """The text of setup.py; skips where it cannot run."""
    if not (SOURCE / "setup.py").exists():
        pytest.skip("no source tree")
    for module in ("Cython", "setuptools"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed")
    return (SOURCE / "setup.py").read_text()


def constants(setup):
    """The literals that setup.py assigns."""
    found = {}
    for node in ast.parse(setup).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, (ast.Constant, ast.Tuple)):
            found[node.targets[0].id] = ast.literal_eval(node.value)
    return found


def wheel_of(setup, folder, **environment):
    """A wheel with one family, the cheapest, and what the build said."""
    shutil.copytree(SOURCE / "fastml", folder / "fastml", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(SOURCE / name, folder)
    one, changed = re.subn(r"(?m)^FAMILIES = .*$", 'FAMILIES = ("isa",)', setup)
    assert changed == 1
    (folder / "setup.py").write_text(one)
    command = [sys.executable, "setup.py", "-q", "bdist_wheel"]
    done = subprocess.run(command, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = (folder / "dist").iterdir()
    return wheel, done.stderr


def extensions_of(wheel):
    return [name for name in zipfile.ZipFile(wheel).namelist() if name.endswith((".so", ".pyd"))]


def test_one_floor(setup):
    """The limited API, the wheel's tag, cibuildwheel and the metadata begin with the same Python."""
    major, minor = constants(setup)["FLOOR"]
    project = tomllib.loads((SOURCE / "pyproject.toml").read_text())
    assert project["project"]["requires-python"] == f">={major}.{minor}"
    assert project["tool"]["cibuildwheel"]["build"][0] == f"cp{major}{minor}-*"
    assert project["tool"]["ruff"]["target-version"] == f"py{major}{minor}"


def test_every_family_is_built(setup):
    """No .pyx is left out."""
    written = {path.stem for path in (SOURCE / "fastml" / "kernels" / "native").glob("*.pyx")}
    assert set(constants(setup)["FAMILIES"]) == written


def test_without_a_compiler(setup, tmp_path):
    wheel, said = wheel_of(setup, tmp_path, CC="/bin/false")
    assert wheel.name.endswith("-py3-none-any.whl")
    assert not extensions_of(wheel)
    assert "fastml: no C compiler could build the native back end of isa: `jit` serves" in said
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    shown = python("import fastml; fastml.show()", PYTHONPATH=str(tmp_path / "installed"))
    assert "native: not built: no C compiler could build it" in shown.stdout, shown.stderr
    assert "no native rung" in shown.stdout


def test_with_one(setup, tmp_path):
    if sys.platform == "win32" or not shutil.which(COMPILER):
        pytest.skip(f"no C compiler {COMPILER!r}")
    wheel, said = wheel_of(setup, tmp_path)
    assert "no C compiler" not in said
    (extension,) = extensions_of(wheel)
    major, minor = constants(setup)["FLOOR"]
    if sys.implementation.name == "cpython" and not sysconfig.get_config_var("Py_GIL_DISABLED"):
        assert f"-cp{major}{minor}-abi3-" in wheel.name
        assert extension.endswith("isa.abi3.so")
    else:
        assert sysconfig.get_config_var("EXT_SUFFIX") in extension
    text = zipfile.ZipFile(wheel).read(extension)
    for folder in (tmp_path, sys.base_prefix):
        assert os.fsencode(folder) not in text
