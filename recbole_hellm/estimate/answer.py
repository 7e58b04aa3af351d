"""The estimate of a run as plain values and as a table."""

from __future__ import annotations

from dataclasses import dataclass

GB = 2**30


@dataclass(frozen=True)
class StageEstimate:
    """What one part of a run will take.

    Attributes:
        name: As in a result file's ``stages``.
        reused: Whether its result is in the stage cache.
        memory_bytes: Peak of the process while it runs.
        parts: Bytes by what takes them, the largest first.
        seconds: Time on this machine, 0 if reused; ``None`` where it is not known.
        about: What makes it up, in words.
    """

    name: str
    reused: bool
    memory_bytes: int
    parts: tuple[tuple[str, int], ...]
    seconds: float | None
    about: str

    @property
    def largest(self) -> str:
        """Name and size of what takes most memory."""
        return f"{self.parts[0][0]} {size(self.parts[0][1])}" if self.parts and self.parts[0][1] else ""


@dataclass(frozen=True)
class Estimate:
    """What a run will take.

    Attributes:
        model: Name of the model.
        dataset: Name of the data set.
        stages: Its parts in their order.
        free_bytes: Memory there is for the process, its own of now included; ``None`` where the system does not tell.
        helps: Settings that make it fit, as on the command line; of a run that fits, none.
        helped_bytes: Peak with them.
        threads: Threads the times are for; 0: no time was asked for.
    """

    model: str
    dataset: str
    stages: tuple[StageEstimate, ...]
    free_bytes: int | None
    helps: tuple[str, ...] = ()
    helped_bytes: int = 0
    threads: int = 0

    @property
    def peak_bytes(self) -> int:
        """Largest memory of the run."""
        return max(stage.memory_bytes for stage in self.stages)

    @property
    def seconds(self) -> float:
        """Time of all parts whose time is known."""
        return sum(stage.seconds or 0.0 for stage in self.stages)

    @property
    def fits(self) -> bool:
        """Whether there is memory enough."""
        return self.free_bytes is None or self.peak_bytes <= self.free_bytes

    @property
    def fullest(self) -> StageEstimate:
        """The part with the largest memory."""
        return max(self.stages, key=lambda stage: stage.memory_bytes)

    def verdict(self) -> str:
        """Return one line: whether it fits, and what helps."""
        if self.free_bytes is None:
            return f"needs {size(self.peak_bytes)}; this system does not tell its free memory"
        if self.fits:
            return f"fits in {size(self.free_bytes)} free (peak {size(self.peak_bytes)}, {self.fullest.name})"
        way_out = "no setting makes it fit: take a machine with more memory, or fewer users and items"
        if self.helps:
            enough = self.helped_bytes <= self.free_bytes
            tail = f"then {size(self.helped_bytes)}" + ("" if enough else ", still too much: take more memory as well")
            way_out = f"the setting that helps: {' '.join(self.helps)} ({tail})"
        return (
            f"does not fit in {size(self.free_bytes)} free: {self.fullest.name} needs {size(self.peak_bytes)} "
            f"({self.fullest.largest}); {way_out}"
        )

    def __str__(self) -> str:
        """Return a table, and the verdict under it."""
        rows = [("stage", "memory", "time", "", "most of it")]
        for stage in self.stages:
            spent = "reused" if stage.reused else "not estimated" if stage.seconds is None else duration(stage.seconds)
            rows.append((stage.name, size(stage.memory_bytes), spent, stage.about, stage.largest))
        rows.append(("all", size(self.peak_bytes), duration(self.seconds), "", ""))
        widths = [max(len(row[place]) for row in rows) for place in range(5)]
        lines = [
            f"{name:{widths[0]}}  {memory:>{widths[1]}}  {spent:>{widths[2]}}  {about:{widths[3]}}  {most}".rstrip()
            for name, memory, spent, about, most in rows
        ]
        note = f"{self.model} on {self.dataset}, times with {self.threads} threads" if self.threads else self.model
        return "\n".join([note, *lines, self.verdict()])


def size(n_bytes: float) -> str:
    """Return a number of bytes in words."""
    return f"{n_bytes / GB:.1f} GB" if n_bytes >= GB else f"{n_bytes / 2**20:.0f} MB"


def duration(seconds: float) -> str:
    """Return a time in words."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 60 else f"{int(minutes // 60)} h {int(minutes % 60):02d} min"
