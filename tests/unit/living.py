"""Whether a process still runs."""

from pathlib import Path


def lives(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):  # gone, perhaps while it was being read
        return False
    return state.rpartition(")")[2].split()[0] != "Z"
