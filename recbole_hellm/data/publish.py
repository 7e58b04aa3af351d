"""Makes a folder visible only when it is complete."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recbole_hellm.errors import DataError


@contextmanager
def published_folder(target: Path) -> Iterator[Path]:
    """Give a scratch folder beside ``target`` that becomes ``target`` when the block ends without an error.

    On any error, also an interrupt or a full disk, the scratch folder goes and an existing ``target`` stays as it was.
    An existing ``target`` is replaced.

    Raises:
        DataError: If a file cannot be written.
    """
    scratch = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent))
        scratch.chmod(0o755)  # mkdtemp makes it private; a data set may be shared
        yield scratch
        _replace(scratch, target)
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError(
            f"cannot write {target} ({reason}); nothing was changed there: free space or choose another output folder"
        ) from error
    finally:
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)


def _replace(scratch: Path, target: Path) -> None:
    """Rename ``scratch`` to ``target``; an old ``target`` comes back if that fails."""
    if not target.exists():
        scratch.rename(target)
        return
    old = scratch.with_suffix(".old")
    target.rename(old)
    try:
        scratch.rename(target)
    except BaseException:
        old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)
