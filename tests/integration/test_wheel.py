"""What `pip install` of the wheel gives, away from the checkout."""

import json
import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
SCRIPT = """
import json
from recbole_hellm.config.recbole_config import read_yaml
from recbole_hellm.config.resources import properties_dir
folder = properties_dir()
settings = {str(path.relative_to(folder)): len(read_yaml(path)) for path in folder.rglob("*.yaml")}
print(json.dumps([str(folder), settings]))
"""


def pip(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", "--quiet", *arguments], check=True, cwd=CHECKOUT)


def test_the_wheel_holds_every_settings_file_and_template(tmp_path):
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path), ".")
    (wheel,) = tmp_path.glob("*.whl")
    templates = {str(path.relative_to(CHECKOUT)) for path in (CHECKOUT / "recbole_hellm").rglob("*.j2")}
    assert len(templates) >= 2
    assert templates <= set(zipfile.ZipFile(wheel).namelist())
    pip("install", "--no-deps", "--target", str(tmp_path / "site"), str(wheel))
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    folder, settings = json.loads(done.stdout.splitlines()[-1])
    assert Path(folder).is_relative_to(tmp_path)
    ours = CHECKOUT / "properties"
    assert set(settings) == {str(path.relative_to(ours)) for path in ours.rglob("*.yaml")}
    assert len(settings) >= 11
    assert all(settings.values())


def test_pyproject_holds_tools_only():
    assert set(tomllib.loads((CHECKOUT / "pyproject.toml").read_text())) == {"build-system", "tool"}


def test_top_level_is_the_agreed_one():
    listed = subprocess.run(["git", "ls-files"], cwd=CHECKOUT, capture_output=True, text=True, check=False).stdout
    tops = {line.split("/")[0] for line in listed.splitlines()}
    agreed = {
        "recbole_hellm", "properties", "run_recbole_hellm.py", "tests", "setup.py", "LICENSE", "README.md", "docs",
        "pyproject.toml", "Makefile", "benchmarks", "CHANGELOG.md", "CONTRIBUTING.md", ".ci", ".gitignore",
    }  # fmt: skip
    assert tops <= agreed
