"""The tables of a report under their headings, in the order that every format prints them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from recbole_hellm.benchmark.comparison import Comparison
from recbole_hellm.benchmark.contents import ablation_tables, main_tables, significance_tables, tie_tables
from recbole_hellm.benchmark.layout import Table
from recbole_hellm.benchmark.records import cost_tables, failed_table, provenance_table, reported_table


@dataclass(frozen=True)
class Part:
    """A heading and its tables, which may be none: a page may have figures there."""

    key: str
    """Id in a page."""
    title: str
    tables: tuple[Table, ...] = ()


def table_parts(comparison: Comparison) -> Iterator[Part]:
    """Yield every heading of a report but that of its data sets, which stand first."""
    failed, reported = failed_table(comparison), reported_table(comparison)
    yield Part("results", "Results on test", tuple(main_tables(comparison)))
    yield Part("significance", "Significance", tuple(significance_tables(comparison)))
    yield Part("ties", "Tie-aware view", tuple(tie_tables(comparison)))
    yield Part("cost", "Cost", tuple(cost_tables(comparison)))
    yield Part("figures", "Quality and cost")
    yield Part("users", "User groups")
    yield Part("training", "Training curves")
    yield Part("ablation", "Ablation", tuple(ablation_tables(comparison)))
    yield Part("failures", "Failed cells", (failed,) if failed else ())
    yield Part("elsewhere", "Reported elsewhere", (reported,) if reported else ())
    yield Part("provenance-section", "Provenance", (provenance_table(comparison),))
