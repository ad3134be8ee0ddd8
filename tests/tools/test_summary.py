from __future__ import annotations

import pytest

from prunec.exporters.amounts import file_size, number
from prunec.tools.summary import Summary, _cells, render_summary


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, "0"),
        (999_999, "999,999"),
        (1_000_000, "1.00 M"),
        (25_557_032, "25.56 M"),
        (4_089_184_256, "4.09 G"),
    ],
)
def test_numbers(count: int, expected: str) -> None:
    assert number(count) == expected


@pytest.mark.parametrize(
    ("count", "expected"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.00 KiB"), (3 << 20, "3.00 MiB"), (5 << 30, "5.00 GiB")],
)
def test_file_sizes(count: int, expected: str) -> None:
    assert file_size(count) == expected


def test_a_change_needs_both_numbers() -> None:
    assert _cells(None, 10, number) == ("?", "10", "")
    assert _cells(0, 10, number) == ("0", "10", "")
    assert _cells(8, 10, number) == ("8", "10", "+25.0 %")
    assert _cells(8_000, 7_999, number) == ("8,000", "7,999", "same")


def test_names_with_markup_are_shown_as_they_are() -> None:
    from io import StringIO

    from rich.console import Console

    summary = Summary(output="[bold]x[/].onnx", parameters=(1, 1), macs=(1, 1), size=(None, 3), remarks={})
    console = Console(file=StringIO(), width=80)
    console.print(render_summary(summary))
    assert "wrote [bold]x[/].onnx" in console.file.getvalue()
