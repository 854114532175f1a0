"""The wheel, installed where the checkout is out of sight: the package is whole, and Twisted finds the plugin."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parent.parent


def run(*command: str, cwd: Path) -> str:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what git would hand out, so that nothing is left in the checkout."""
    source = tmp_path_factory.mktemp("source")
    listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=CHECKOUT)
    for name in listed.splitlines():
        if (CHECKOUT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((CHECKOUT / name).read_bytes())
    return source


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built without a network."""
    target = tmp_path_factory.mktemp("wheel")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet")
    run(*pip, "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(target), str(source), cwd=target)
    (made,) = target.glob("inboundmx-*.whl")
    return made


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ``bin`` of a fresh environment with the wheel in it; the libraries are those of the running one."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    (packages,) = folder.glob("lib/python*/site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    # A plain path entry: libraries are found, and what *their* path entries add (this checkout) is not.
    (packages / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin"


def test_the_wheel_holds_the_product_alone(wheel: Path, source: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    code = {name for name in names if ".dist-info/" not in name}

    assert {name.split("/")[0] for name in code} == {"inboundmx", "twisted"}
    assert [name for name in code if name.startswith("twisted/")] == ["twisted/plugins/inboundmx_plugin.py"]
    assert {path.relative_to(source).as_posix() for path in source.glob("inboundmx/**/*.py")} <= code
    assert "inboundmx/py.typed" in code


def test_the_installed_package_is_not_the_checkout(installed: Path, tmp_path: Path) -> None:
    where = run(str(installed / "python"), "-c", "import inboundmx; print(inboundmx.__file__)", cwd=tmp_path)

    assert Path(where.strip()).is_relative_to(installed.parent)


def test_twistd_lists_the_plugin(installed: Path, tmp_path: Path) -> None:
    twistd = "from twisted.scripts.twistd import run; run()"
    helped = run(str(installed / "python"), "-c", twistd, "--help", cwd=tmp_path)

    assert "inboundmx" in helped


def test_twistd_knows_its_options(installed: Path, tmp_path: Path) -> None:
    twistd = "from twisted.scripts.twistd import run; run()"
    helped = run(str(installed / "python"), "-c", twistd, "inboundmx", "--help", cwd=tmp_path)

    assert "--config" in helped


def test_python_m_inboundmx_runs(installed: Path, tmp_path: Path) -> None:
    version = run(str(installed / "python"), "-c", "import inboundmx; print(inboundmx.__version__)", cwd=tmp_path)
    said = run(str(installed / "python"), "-m", "inboundmx", "version", cwd=tmp_path)

    assert version.strip() in said


def test_the_console_script_is_declared(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("entry_points.txt")]
        declared = archive.read(name).decode()

    assert "inboundmx = inboundmx.__main__:main" in declared
