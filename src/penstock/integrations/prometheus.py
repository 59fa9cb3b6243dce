"""A Prometheus collector: the limiters' own counters, read when they are scraped, and nothing on a decision's path.

    REGISTRY.register(PenstockCollector([Limiter("100/second", name="api")]))
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from penstock.integrations._figures import FIGURES, named
from penstock.limiter import Limiter

try:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
    from prometheus_client.registry import Collector
except ImportError as error:
    raise ImportError(f"penstock.integrations.prometheus: {error}; pip install 'penstock[prometheus]'") from error


class PenstockCollector(Collector):
    """Metrics penstock_admitted_total, penstock_denied_total and so on, labelled with the limiter's name.

    limiters: with names of their own, or a mapping of names.

    Keys are never in a metric. A limiter that processes share counts for all of them, so every process reports the
    same; one that they do not share, for itself. A scrape reads the whole table, a millisecond for a hundred thousand
    keys.
    """

    def __init__(self, limiters: Mapping[str, Limiter] | Iterable[Limiter]) -> None:
        self._limiters = named(limiters)

    def describe(self) -> Iterator[Metric]:
        """The metrics without values: registering reads no table."""
        for figure in FIGURES:
            yield self._family(figure.name, figure.unit, figure.total, figure.help)

    def collect(self) -> Iterator[Metric]:
        """The metrics as they are now."""
        stats = {name: limiter.stats() for name, limiter in self._limiters.items()}
        for figure in FIGURES:
            family = self._family(figure.name, figure.unit, figure.total, figure.help)
            for name, of in stats.items():
                value = figure.of(of)
                if value is not None:
                    family.add_metric([name], value)
            yield family

    @staticmethod
    def _family(name: str, unit: str, total: bool, text: str) -> CounterMetricFamily | GaugeMetricFamily:
        kind = CounterMetricFamily if total else GaugeMetricFamily
        return kind(f"penstock_{name}" + (f"_{unit}" if unit else ""), text, labels=["limiter"], unit=unit)
