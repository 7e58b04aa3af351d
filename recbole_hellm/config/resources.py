"""Locate the yaml files of ``properties/`` in a checkout, a wheel and an editable install."""

from pathlib import Path

from recbole_hellm.errors import ConfigError, nearest


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


def accelerate_configs() -> dict[str, Path]:
    """Return the shipped configs for ``accelerate launch --config_file``, by name."""
    return {path.stem: path for path in sorted((properties_dir() / "accelerate").glob("*.yaml"))}


def accelerate_config(name: str) -> Path:
    """Return where one of them lies.

    Raises:
        ConfigError: If there is none of this name; the message has the near name and all known ones.
    """
    known = accelerate_configs()
    if name not in known:
        raise ConfigError(f"unknown accelerate config {name!r}{nearest(name, known)}; known: {', '.join(known)}")
    return known[name]
