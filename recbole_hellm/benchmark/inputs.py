"""What a cell reads besides its own settings: told from what it read when it ran before."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recbole_hellm.artifacts import file_digest, fingerprint
from recbole_hellm.benchmark.settings import WHERE
from recbole_hellm.results import plain

FILES = ("inter", "item", "user")
"""Ends of the files of a data set that decide numbers."""
NO_MATTER = WHERE | {"seed", "device", "data_path_root", "result_file"}
"""Resolved settings that decide no number, or stand in the cell's line themselves."""


def inputs_of(config: Any) -> dict[str, Any]:
    """Return what a cell's line says of its inputs.

    Args:
        config: Its settings after all yaml files and presets; the data set lies where they say.

    Returns:
        ``settings_digest`` and ``files``, a digest by file name.
    """
    settings = {key: value for key, value in config.final_config_dict.items() if key not in NO_MATTER}
    paths = [Path(config["data_path"]) / f"{config['dataset']}.{end}" for end in FILES]
    return {
        "settings_digest": fingerprint(settings=plain(settings))[:16],
        "files": {path.name: file_digest(path)[:16] for path in paths if path.is_file()},
    }


def what_differs(line: Mapping[str, Any], inputs: Mapping[str, Any]) -> str:
    """Return what a finished cell read that is another thing now, or an empty string.

    Args:
        line: Line of the cell; what an older one does not say is taken to be the same.
        inputs: As :func:`inputs_of` gives them now; empty where they are not known.
    """
    then, now = line.get("files"), inputs.get("files")
    if isinstance(then, dict) and now is not None and then != now:
        names = sorted(name for name in {*then, *now} if then.get(name) != now.get(name))
        return f"{', '.join(names)} changed since"
    digest = line.get("settings_digest")
    if digest is not None and inputs.get("settings_digest", digest) != digest:
        return "a preset, or the yaml of the model or the data set, changed since"
    return ""
