"""OpenTelemetry metrics: the limiters' own counters, read when they are exported, and nothing on a decision's path.

    observe([Limiter("100/second", name="api")])
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from penstock.integrations._figures import FIGURES, Figure, named
from penstock.limiter import Limiter

try:
    from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation, get_meter
except ImportError as error:
    raise ImportError(f"penstock.integrations.opentelemetry: {error}; pip install 'penstock[opentelemetry]'") from error


def observe(
    limiters: Mapping[str, Limiter] | Iterable[Limiter], meter_provider: MeterProvider | None = None
) -> None:
    """Reports penstock.admitted, penstock.denied and so on, with the attribute penstock.limiter.

    limiters: with names of their own, or a mapping of names. meter_provider: the global one by default.

    Keys are never in a metric. A limiter that processes share counts for all of them. An export reads the whole table
    once for each metric.
    """
    found = named(limiters)
    meter = get_meter("penstock", meter_provider=meter_provider)
    for figure in FIGURES:
        make = meter.create_observable_counter if figure.total else meter.create_observable_gauge
        make(f"penstock.{figure.name}", [_reader(figure, found)], figure.unit, figure.help)


def _reader(figure: Figure, limiters: dict[str, Limiter]) -> Callable[[CallbackOptions], Iterable[Observation]]:
    def read(_: CallbackOptions) -> Iterator[Observation]:
        for name, limiter in limiters.items():
            value = figure.of(limiter.stats())
            if value is not None:
                yield Observation(value, {"penstock.limiter": name})

    return read
