"""Reads the first sheet of an .xlsx file as rows of text, through pandas and openpyxl.

It needs the extra `excel`. A number is written as a sheet shows it without a format (`2`, `0.8`), a
date as `2026-11-01`, a switch as `true` or `false`; of a formula the value that the spreadsheet had
saved. The whole sheet is held in memory, unlike the other tables.
"""

import zipfile
from datetime import date, datetime
from importlib.util import find_spec
from pathlib import Path

MAX_BYTES = 20 * 2**20
"""Of a file: packed text that large takes about a GB of memory as a sheet."""


def read_sheet(path: Path) -> list[list[str]]:
    """Every row from the first on, the header too; each with a cell for each column.

    Raises:
        ValueError: The extra is missing, or it is no .xlsx file, or too large.
        OSError: It can't be read.
    """
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(
            f"has more than {MAX_BYTES:,} bytes as a spreadsheet: save it as CSV UTF-8"
        )
    if find_spec("openpyxl") is None:
        message = "is a spreadsheet: pip install 'flux-pipeline[excel]', or save it as CSV UTF-8"
        raise ValueError(message)
    import pandas as pd  # noqa: PLC0415 - it takes half a second, and few sets need it

    try:
        sheet = pd.read_excel(
            path, header=None, dtype=object, keep_default_na=False, engine="openpyxl"
        )
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise ValueError(f"is no valid .xlsx file: {error}; save it as CSV UTF-8") from None
    return [[_text(cell) for cell in row] for row in sheet.to_numpy().tolist()]


def _text(cell: object) -> str:
    if cell is None or cell != cell:  # noqa: PLR0124 - NaN is a blank cell
        return ""
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    if isinstance(cell, datetime) and not (cell.hour or cell.minute or cell.second):
        return cell.date().isoformat()
    return cell.isoformat() if isinstance(cell, date) else str(cell)
