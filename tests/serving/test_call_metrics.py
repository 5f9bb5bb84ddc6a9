"""Figures of a model's calls, as Prometheus reads them."""

from serving.call_metrics import CallCollector, CallMetrics


def test_each_output_has_its_mean_prediction() -> None:
    metrics = CallMetrics()
    metrics.called([0.1], 3, 0.1, {"ctr": (3, 0.6), "cvr": (3, 1.5)})
    metrics.called([0.1], 1, 0.1, {"ctr": (1, 0.2)})
    found = {
        (family.name, sample.labels["output"]): sample.value
        for family in CallCollector("shop", {7: metrics}).collect()
        for sample in family.samples
        if "output" in sample.labels
    }
    assert found == {
        ("lionctr_predictions", "ctr"): 4,
        ("lionctr_predictions", "cvr"): 3,
        ("lionctr_predictions_sum", "ctr"): 0.8,
        ("lionctr_predictions_sum", "cvr"): 1.5,
    }
