"""The files of a backtest: labels that come in, changes that go out as CSV or Parquet, a slice at a time."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

from paynow.backtest.labels import Labels, LabelsRefused
from paynow.backtest.tally import Change
from paynow.cases.vocabulary import LABELS
from paynow.errors import PayNowError
from paynow.money import to_text

LABEL_COLUMNS = ["payment_id", "label"]
FAULTS_MAX = 20
COLUMNS = (
    "payment_id", "decided_at", "customer_id", "payee_id", "amount", "currency",
    "recorded", "candidate", "unsure", "recorded_rules", "candidate_rules", "label",
)  # fmt: skip
"""What stands in an exported file: amounts in major units, rules separated by blanks."""


class ExportRefused(PayNowError):
    """The file cannot be written: its kind is not known, what writes it is not installed, or there is no such folder."""


def read_labels(file: Path) -> Labels:
    """The labels of a CSV file with the columns payment_id and label. Raises `LabelsRefused` with the first faults, and `OSError`."""
    faults: list[str] = []
    said: list[tuple[UUID, str]] = []
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream)
            if next(reader, None) != LABEL_COLUMNS:
                raise LabelsRefused([f"{file}:1: the first line must be {','.join(LABEL_COLUMNS)}"])
            for row in reader:
                read = _label(row) if row else None
                if isinstance(read, str):
                    faults.append(f"{file}:{reader.line_num}: {read}")
                    if len(faults) >= FAULTS_MAX:
                        break
                elif read is not None:
                    said.append(read)
    except (UnicodeDecodeError, csv.Error) as error:
        raise LabelsRefused([f"{file}: is not a CSV file in UTF-8: {type(error).__name__}"]) from None
    if faults:
        raise LabelsRefused(faults)
    return Labels(said)


def _label(row: list[str]) -> tuple[UUID, str] | str:
    """The payment and its label, or what is wrong with the line."""
    if len(row) != len(LABEL_COLUMNS):
        return f"expected {len(LABEL_COLUMNS)} columns"
    try:
        payment_id = UUID(row[0])
    except ValueError:
        return "payment_id must be a payment's id"
    return (payment_id, row[1]) if row[1] in LABELS else f"label must be one of {', '.join(LABELS)}"


def check_export(file: Path) -> None:
    """Raises `ExportRefused` before any work is done for a file that could not be written in the end."""
    if file.suffix not in (".csv", ".parquet"):
        raise ExportRefused(f"{file}: the name must end in .csv or .parquet")
    if not file.resolve().parent.is_dir():
        raise ExportRefused(f"{file}: there is no such folder")
    if file.suffix == ".parquet":
        _pyarrow()


@contextmanager
def exporting(file: Path) -> Iterator[Callable[[list[Change]], None]]:
    """Writes changes as they come. The file is there when all is written, and not at all if something went wrong."""
    unfinished = file.with_name(f".{file.name}.unfinished")
    try:
        with (_csv if file.suffix == ".csv" else _parquet)(unfinished) as write:
            yield write
        unfinished.replace(file)
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def _csv(file: Path) -> Iterator[Callable[[list[Change]], None]]:
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(COLUMNS)
        yield lambda changes: writer.writerows(_row(change) for change in changes)


@contextmanager
def _parquet(file: Path) -> Iterator[Callable[[list[Change]], None]]:
    """One row group a slice. Amounts are texts as in CSV: a decimal column has one number of decimals, currencies have not."""
    arrow, parquet = _pyarrow()
    schema = arrow.schema([(name, arrow.bool_() if name == "unsure" else arrow.string()) for name in COLUMNS])

    with parquet.ParquetWriter(file, schema) as writer:

        def write(changes: list[Change]) -> None:
            rows = [_values(change) for change in changes]
            writer.write_table(arrow.table([list(column) for column in zip(*rows, strict=True)], schema=schema))

        yield write


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise ExportRefused("Parquet needs pyarrow, which is not installed: pip install 'paynow[parquet]', or export a .csv file") from None
    return pyarrow, pyarrow.parquet


def _values(change: Change) -> tuple[Any, ...]:
    return (
        *(change.payment_id, change.decided_at, change.customer_id, change.payee_id),
        *(to_text(change.amount_minor, change.currency), change.currency, change.recorded, change.candidate, change.unsure),
        *(" ".join(change.recorded_rules), " ".join(change.candidate_rules), change.label),
    )


def _row(change: Change) -> tuple[Any, ...]:
    """As CSV has it: true, false, and nothing where there is no label."""
    return tuple(str(value).lower() if isinstance(value, bool) else value or "" for value in _values(change))
