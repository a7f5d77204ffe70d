import pytest

import scaling

FIGURES = {
    "bytes": 200,
    "ratio": 2.0,
    "exact_ns_per_byte": 1.0,
    "marked_ns_per_byte": 1.1,
    "resolve_ns_per_byte": 0.2,
    "crc_ns_per_byte": 0.01,
    "marked_share": None,
    "scan_ns_per_byte": 0.01,
    "sha_pair_ns_per_compressed_byte": 1.6,
    "sha_single_ns_per_compressed_byte": 0.46,
    "probe_ns_per_compressed_bit": None,
    "measured_ns": {"1": 400, "2": 200},
}


def test_layer_costs_when_figures_are_missing_then_assumed_and_listed():
    costs = scaling.layer_costs(FIGURES, 1 << 20)
    assert (costs.compressed_size, costs.exact, costs.marked_share) == (1 << 20, 1.0, 1.0)
    assert costs.join == scaling.ASSUMED["join_ns_per_range"]
    assert scaling.assumed(FIGURES) == scaling.ASSUMED


def test_layer_costs_when_a_required_figure_is_missing_then_error():
    figures = {name: value for name, value in FIGURES.items() if name != "exact_ns_per_byte"}
    with pytest.raises(KeyError, match="exact_ns_per_byte"):
        scaling.layer_costs(figures, 1 << 20)


def test_figures_by_layer_when_some_are_global_then_all_layers_have_them():
    stages = {"join_ns_per_range": 5.0, "a": FIGURES, "b": {**FIGURES, "join_ns_per_range": 7.0}}
    layers = dict(scaling.figures_by_layer(stages))
    assert {name: figures["join_ns_per_range"] for name, figures in layers.items()} == {
        "a": 5.0,
        "b": 7.0,
    }


def test_measured_rates_then_they_are_megabytes_a_second():
    assert scaling.measured_rates(FIGURES) == {1: 500.0, 2: 1000.0}


def test_report_then_it_names_the_limit_and_what_was_assumed():
    layers = {"rootfs": FIGURES}
    costs = {"rootfs": scaling.layer_costs(FIGURES, 32 << 20)}
    found = {"rootfs": [scaling.simulate(costs["rootfs"], cores) for cores in scaling.CORES]}
    report = scaling.report_text(layers, costs, found)
    assert "## 16 cores" in report
    assert "## 64 cores" in report
    assert "| rootfs | the digests" in report
    assert "join_ns_per_range 30000" in report
