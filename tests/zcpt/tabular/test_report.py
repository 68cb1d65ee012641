"""Published figures, and pages that cannot be written."""

import json
import math

import pytest

import zcpt
from zcpt.tabular.pictures import bars, scatter
from zcpt.tabular.published import AGREEMENTS, CORRELATIONS, SEARCHES, correlations, operation_agreement
from zcpt.tabular.report import write_page


def test_published_figures_are_found_however_names_are_written():
    for name in ("jacob_cov", "jacob-cov"):
        found = correlations("nasbench201", "cifar100", name)
        assert [(fact.spearman, fact.source) for fact in found] == [(0.82, "VKDNW"), (0.704, "ZCN")]
    assert correlations("nasbench201", "cifar10", "nothing") == []
    assert operation_agreement("nasbench201", "zc-pt naswot").best_acc == 0.77
    assert operation_agreement("darts", "zc-pt naswot") is None


def test_published_figures_are_correlations_of_known_spaces():
    for fact in CORRELATIONS:
        assert all(figure is None or -1 <= figure <= 1 for figure in (fact.spearman, fact.kendall))
    for fact in [*CORRELATIONS, *AGREEMENTS, *SEARCHES]:
        assert fact.space in zcpt.list_spaces()


def test_pictures_leave_out_what_is_not_finite_and_spread_what_spans_powers_of_ten():
    figure = scatter([1.0, 2.0, 3.0], {"a": [1.0, math.inf, 3.0], "b": [1e-3, 1.0, 1e30], "c": [math.nan] * 3})
    assert [len(axis.collections[0].get_offsets()) for axis in figure.axes] == [2, 3, 0]
    assert [axis.get_xscale() for axis in figure.axes] == ["linear", "log", "linear"]
    value = {"value": 0.5, "low": 0.4, "high": 0.6}
    none = dict.fromkeys(value)
    (axis,) = bars({"x": {"spearman": none, "kendall": none}, "y": {"spearman": value, "kendall": value}}).axes
    assert [label.get_text() for label in axis.get_yticklabels()] == ["y", "x"]


def test_a_result_of_another_kind_is_refused(tmp_path):
    document = {"protocol": {"benchmark": "horses", "space": "darts", "table": {}}, "results": {}}
    (tmp_path / "result.json").write_text(json.dumps(document))
    with pytest.raises(zcpt.ConfigError, match="there is no benchmark 'horses'"):
        write_page([tmp_path], tmp_path / "page.md")
    with pytest.raises(zcpt.ConfigError, match=r"result\.json is missing"):
        write_page([tmp_path / "a"], tmp_path / "page.md")
