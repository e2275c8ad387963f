"""Rows of a run's history, as tests look at them."""

from collections.abc import Iterable
from dataclasses import replace

from recallk.runs.history import Measurement, MeasurementKind, Row, Step


def steps(rows: Iterable[Row]) -> list[Step]:
    """Return the rows of steps."""
    return [row for row in rows if isinstance(row, Step)]


def losses_of(rows: Iterable[Row]) -> list[float]:
    """Return the losses of the steps that were made."""
    return [row.loss for row in steps(rows) if row.loss is not None]


def measured(rows: Iterable[Row], kind: MeasurementKind | None = None) -> list[Measurement]:
    """Return the measurements, of one kind or all."""
    return [row for row in rows if isinstance(row, Measurement) and kind in (None, row.kind)]


def kind_of(row: Row) -> str:
    """Return "start", "step", or the kind of a measurement."""
    return row.kind if isinstance(row, Measurement) else type(row).__name__.lower()


def without_time(rows: Iterable[Row]) -> list[Row]:
    """Return what was learnt and measured, without how long it took and without what the run began or went on with."""
    return [replace(row, seconds=0.0) for row in rows if isinstance(row, Step | Measurement)]
