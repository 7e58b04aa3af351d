"""Locate the yaml files of ``properties/`` in a checkout, a wheel and an editable install."""

from pathlib import Path


def properties_dir() -> Path:
    """Return the folder that holds ``model/``, ``dataset/``, ``preset/`` and ``overall.yaml``.

    Raises:
        FileNotFoundError: If neither the installed copy nor the checkout has it.
    """
    package = Path(__file__).resolve().parents[1]
    installed, checkout = package / "properties", package.parent / "properties"
    for folder in (installed, checkout):
        if (folder / "overall.yaml").is_file():
            return folder
    raise FileNotFoundError(
        f"properties/overall.yaml found neither in {installed} nor in {checkout}; "
        "reinstall recbole_hellm or run from a full checkout"
    )
