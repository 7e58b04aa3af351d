"""Figures of a report: they show the numbers, read well, and are the same every time."""

import math
import re
import subprocess
import sys
from dataclasses import replace
from xml.etree import ElementTree

import matplotlib
import pytest
from benchmark_lines import make_results, read_results
from hypothesis import given
from hypothesis import strategies as st

from recbole_hellm.benchmark import drawing, plots
from recbole_hellm.benchmark.comparison import Curve
from recbole_hellm.benchmark.naming import shorten, spread
from recbole_hellm.benchmark.plots import ablation_plots, curve_plots, group_plots, result_plots
from recbole_hellm.benchmark.summary import compare

ALL = (result_plots, group_plots, curve_plots, ablation_plots)
HOSTILE = 'x <script>alert(1)</script> & "$x_1$" 0.123456'
LONG = "A model with a name that no margin of a small figure can hold, number one"
MODELS = ("HeLLM", "SASRec", "TransitionCounts", LONG, HOSTILE, LONG.replace("one", "two"))


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plots")
    header, lines = read_results(make_results(folder, MODELS, n_users=60, ablation=True))
    return compare(lines, header, folder)


@pytest.fixture
def drawn(monkeypatch):
    """The axes of every figure that is drawn, by title."""
    axes = {}
    as_plot = plots.as_plot

    def keep(of, dataset, title, text):
        axes[title] = of
        return as_plot(of, dataset, title, text)

    monkeypatch.setattr(plots, "as_plot", keep)
    return axes


def every(comparison):
    return [plot for made in ALL for plot in made(comparison)]


def xml(plot):
    # A page's parser knows xlink without being told; an XML parser must be told.
    return ElementTree.fromstring(plot.svg.replace("<svg", '<svg xmlns:xlink="http://www.w3.org/1999/xlink"', 1))


def texts(plot):
    return ["".join(node.itertext()) for node in xml(plot).iter() if node.tag.endswith("text")]


def test_every_figure_is_there_and_tells_what_it_shows(comparison):
    made = every(comparison)
    assert [plot.title for plot in made] == [
        *("ndcg@10, amazon-toys", "recall@10, amazon-toys", "Quality against cost, amazon-toys"),
        *("By history, amazon-toys", "By popularity, amazon-toys"),
        *("Validation ndcg@10, amazon-toys", "Loss in training, amazon-toys"),
        *("Loss in graph pre-training, amazon-toys", "Loss in sequence pre-training, amazon-toys"),
        "One part off, amazon-toys",
    ]
    assert all(plot.text.endswith(".") for plot in made)
    assert not list(ablation_plots(replace(comparison, ablation={}, ablation_rows=())))


def test_the_same_results_give_the_same_bytes(comparison):
    assert [plot.svg for plot in every(comparison)] == [plot.svg for plot in every(comparison)]


def test_figures_can_stand_on_one_page(comparison):
    made = every(comparison)
    ids = [value for plot in made for value in re.findall(r' id="([^"]*)"', plot.svg)]
    assert len(ids) > 30
    assert len(set(ids)) == len(ids)
    for plot in made:
        known = set(re.findall(r' id="([^"]*)"', plot.svg))
        assert set(re.findall(r'(?:href="|url\()#([^")]*)', plot.svg)) <= known
        assert not re.search(r"https?:|<style|<script|#0[1-9]0|DejaVu", plot.svg.replace(HOSTILE, ""))


def test_labels_stay_as_they_are(comparison):
    plot = next(result_plots(comparison))
    assert shorten(HOSTILE, 52 - len("0.1000 ± 0.1000")) in texts(plot)
    short = replace(comparison, rows=tuple(replace(row, label="$n_1$ 0.123456") for row in comparison.rows[:1]))
    assert "$n_1$ 0.123456" in texts(next(result_plots(short)))


def test_metric_by_model_shows_mean_interval_and_seeds(comparison, drawn):
    list(result_plots(comparison))
    lines = drawn["ndcg@10, amazon-toys"].lines
    best = max(comparison.rows, key=lambda row: row.mean["ndcg@10"])
    interval, seeds, mean = (list(line.get_xdata()) for line in lines[:3])
    assert interval == list(best.interval["ndcg@10"])
    assert seeds == [cell["test"]["ndcg@10"] for cell in best.cells]
    assert mean == [best.mean["ndcg@10"]]


def test_cost_figure_shows_seconds_and_metric(comparison, drawn):
    list(result_plots(comparison))
    axes = drawn["Quality against cost, amazon-toys"]
    points = {(line.get_xdata()[0], line.get_ydata()[0]) for line in axes.lines if len(line.get_xdata()) == 1}
    assert points == {(row.cost.seconds, row.mean["ndcg@10"]) for row in comparison.rows}
    assert axes.get_xscale() == "log"


def test_group_figure_shows_every_part(comparison, drawn):
    list(group_plots(comparison))
    axes = drawn["By popularity, amazon-toys"]
    own = [group for group in comparison.groups if group.by == "popularity" and group.label == "HeLLM"]
    assert list(axes.lines[0].get_ydata()) == [group.mean for group in own]
    names = [label.get_text() for label in axes.get_xticklabels()]
    assert [name.split("\n")[0] for name in names] == ["tail", "middle", "head"]
    assert names[0].endswith(f"n {own[0].n_users}")


def test_a_part_that_one_data_set_lacks_has_no_figure_there(comparison):
    left = tuple(group for group in comparison.groups if group.by == "history")
    other = tuple(replace(group, dataset="other") for group in comparison.groups)
    titles = [plot.title for plot in group_plots(replace(comparison, groups=left + other))]
    assert titles == ["By history, amazon-toys", "By history, other", "By popularity, other"]


def test_curves_leave_out_what_was_not_validated_and_compare_losses_from_one(comparison, drawn):
    list(curve_plots(comparison))
    line = drawn["Validation ndcg@10, amazon-toys"].lines[0]
    assert list(line.get_xdata()) == [1, 2, 3, 4, 6]
    assert all(line.get_ydata()[0] == 1 for line in drawn["Loss in training, amazon-toys"].lines[:5])
    # TransitionCounts has no epochs: five lines, each with its name's pointer.
    assert len(drawn["Loss in training, amazon-toys"].lines) == 10


def test_very_different_numbers_of_epochs_share_a_figure(comparison, drawn):
    long = Curve(
        "amazon-toys", "SASRec", 1, tuple({"epoch": e, "loss": 1 / e, "valid": None} for e in range(1, 201)), (), (), 3
    )
    list(curve_plots(replace(comparison, curves=(comparison.curves[0], long))))
    assert drawn["Loss in training, amazon-toys"].get_xscale() == "log"


def test_a_model_of_one_epoch_is_a_symbol(comparison, drawn):
    one = Curve("amazon-toys", "SASRec", 1, ({"epoch": 1, "loss": 1.0, "valid": {"ndcg@10": 0.07}},), (), (), 1)
    list(curve_plots(replace(comparison, curves=(comparison.curves[0], one))))
    assert [line.get_markevery() for line in drawn["Validation ndcg@10, amazon-toys"].lines[:2]] == [1, 1]


def test_a_row_with_other_minutes_says_so(comparison, drawn):
    rows = [
        replace(row, protocol={**row.protocol, "minutes": None}) for row in comparison.rows if row.label == "SASRec"
    ]
    rows = [row if row.label != "SASRec" else rows[0] for row in comparison.rows]
    list(result_plots(replace(comparison, rows=tuple(rows))))
    texts = [text.get_text() for text in drawn["ndcg@10, amazon-toys"].texts]
    assert len([text for text in texts if "no time limit" in text]) == 1


def test_ablation_bars_are_the_differences(comparison, drawn):
    list(ablation_plots(comparison))
    widths = [bar.get_width() for bar in drawn["One part off, amazon-toys"].patches]
    assert widths == sorted(result.difference for result in comparison.ablation["amazon-toys"])
    assert len(widths) == 3


def test_no_text_leaves_its_figure_or_covers_another(comparison, drawn):
    with drawing.style():
        every(comparison)
        assert len(drawn) == 10
        for title, axes in drawn.items():
            boxes = [text.get_window_extent() for text in axes.texts if text.get_text()]
            assert boxes, title
            for place, box in enumerate(boxes):
                assert box.x0 >= 0, title
                assert box.x1 <= drawing.WIDTH + 1, title
                for other in boxes[:place]:
                    wide, tall = (
                        min(box.x1, other.x1) - max(box.x0, other.x0),
                        min(box.y1, other.y1) - max(box.y0, other.y0),
                    )
                    assert wide <= 0.5 or tall <= 2, title


def test_one_colour_per_model_in_every_figure(comparison, drawn):
    every(comparison)
    looks = drawing.looks(comparison)
    colour = looks["SASRec"].colour
    for title in ("ndcg@10, amazon-toys", "Quality against cost, amazon-toys", "By history, amazon-toys"):
        assert colour in {line.get_color() for line in drawn[title].lines}, title
    many = tuple(replace(comparison.rows[0], label=f"model {n}") for n in range(40))
    assert len(set(drawing.looks(replace(comparison, rows=many, ablation_rows=())).values())) == 40


def test_settings_of_matplotlib_stay_as_they_were(comparison):
    before = dict(matplotlib.rcParams)
    every(comparison)
    assert dict(matplotlib.rcParams) == before
    code = "import sys, recbole_hellm.benchmark.plots; sys.exit('matplotlib.pyplot' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@given(st.lists(st.floats(0, 200), min_size=1, max_size=12))
def test_spread_keeps_gap_order_and_frame(wanted):
    places = spread(wanted, 14, 0, 200)
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    sorted_places = [places[i] for i in order]
    assert all(b - a >= 14 - 1e-9 for a, b in zip(sorted_places, sorted_places[1:], strict=False))
    assert max(places) <= 200 + 1e-9
    assert min(places) >= -1e-9
    if all(b - a >= 14 for a, b in zip(sorted(wanted), sorted(wanted)[1:], strict=False)):
        assert places == pytest.approx(wanted)


@given(st.text(max_size=60), st.integers(3, 40))
def test_shorten(text, longest):
    short, plain = shorten(text, longest), " ".join(text.split())
    assert len(short) <= longest
    assert short == plain or ("…" in short and short[0] == plain[0] and short[-1] == plain[-1])


def test_times_have_names():
    assert [plots._time(t) for t in (0.1, 10, 60, 600, 3600, 36000)] == [
        "0.1 s",
        "10 s",
        "1 min",
        "10 min",
        "1 h",
        "10 h",
    ]
    assert len(plots._ticks(400, 1500)) >= 2
    assert not any(math.isnan(t) for t in plots._ticks(0.1, 1e6))
