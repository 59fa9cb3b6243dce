"""Prometheus and OpenTelemetry read the limiters' own counters, when they are asked and no sooner."""

from __future__ import annotations

import threading
import urllib.request
from typing import Any

import pytest
from peers import needed

needed("opentelemetry", "prometheus_client")

from opentelemetry.sdk.metrics import MeterProvider  # noqa: E402
from opentelemetry.sdk.metrics.export import InMemoryMetricReader  # noqa: E402
from prometheus_client import CollectorRegistry, make_wsgi_app  # noqa: E402
from prometheus_client.parser import text_string_to_metric_families  # noqa: E402

from penstock import Limiter  # noqa: E402
from penstock.integrations._figures import FIGURES  # noqa: E402
from penstock.integrations.opentelemetry import observe  # noqa: E402
from penstock.integrations.prometheus import PenstockCollector  # noqa: E402
from penstock.sync.state import SyncState  # noqa: E402


@pytest.fixture
def limiters() -> list[Limiter]:
    """One that has admitted 2 and refused 3, and one that is as new."""
    api = Limiter("2/day", name="api", capacity=100)
    for _ in range(5):
        api.hit("user:ada")
    return [api, Limiter("1/day", name='odd "name"\n')]


def samples(registry: CollectorRegistry) -> dict[tuple[str, str], float]:
    """(metric, limiter) -> value, as a scraper of a real server reads it."""
    from wsgiref.simple_server import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        def log_message(self, *_: Any) -> None: ...

    with make_server("127.0.0.1", 0, make_wsgi_app(registry), handler_class=Quiet) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://127.0.0.1:{server.server_port}/metrics", timeout=10) as response:
            text = response.read().decode()
        thread.join()
    return {
        (sample.name, sample.labels["limiter"]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_scrape_reads_the_counters(limiters: list[Limiter]) -> None:
    registry = CollectorRegistry()
    registry.register(PenstockCollector(limiters))
    found = samples(registry)
    expected = {"admitted_total": 2, "denied_total": 3, "evicted_total": 0, "live_keys": 1, "capacity_keys": 100}
    assert {name: found[f"penstock_{name}", "api"] for name in expected} == expected
    assert found["penstock_table_bytes", "api"] == limiters[0].bytes
    assert found["penstock_admitted_total", 'odd "name"\n'] == 0
    assert not [name for name, _ in found if "sync" in name]
    limiters[0].hit("user:bob")
    assert samples(registry)["penstock_admitted_total", "api"] == 3


def test_overuse_is_told_as_a_counter_that_does_not_fall(limiters: list[Limiter]) -> None:
    """What is made up for leaves what is owed now, and stays in what was ever seen."""
    (figure,) = (one for one in FIGURES if one.name == "sync_overuse")
    before = SyncState(True, "normal", 2, 0.05, None, 0, 0, 0, 0, 3.0, 4.0, 0, 0, None)
    after = before._replace(overuse=1.0, repaid=6.0)
    assert figure.total
    stats = limiters[0].stats()
    assert [figure.of(stats._replace(sync=state)) for state in (before, after)] == [7.0, 7.0]


def test_an_export_reads_the_counters(limiters: list[Limiter]) -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    observe({"first": limiters[0]}, provider)
    limiters[0].hit("user:bob")
    data = reader.get_metrics_data()
    assert data is not None
    found = {
        metric.name: [(point.value, dict(point.attributes or {})) for point in metric.data.data_points]
        for metric in data.resource_metrics[0].scope_metrics[0].metrics
    }
    assert found["penstock.admitted"] == [(3, {"penstock.limiter": "first"})]
    assert found["penstock.denied"] == [(3, {"penstock.limiter": "first"})]
    assert found["penstock.live"] == [(2, {"penstock.limiter": "first"})]
    assert "penstock.sync_connected" not in found
    provider.shutdown()


def test_registering_reads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Limiter) -> None:
        raise AssertionError("read too soon")

    monkeypatch.setattr(Limiter, "stats", fail)
    CollectorRegistry().register(PenstockCollector({"api": Limiter("1/day")}))


@pytest.mark.parametrize("report", [PenstockCollector, observe])
def test_limiters_need_one_name_each(report: Any, limiters: list[Limiter]) -> None:
    with pytest.raises(ValueError, match="has no name to be reported under"):
        report([Limiter("1/day")])
    with pytest.raises(ValueError, match="has the name 'api' twice"):
        report([limiters[0], Limiter("1/day", name="api")])
    with pytest.raises(TypeError, match="not 'api' to str"):
        report({"api": "1/day"})
