"""Totals by group, by pandas: a function with a compiled wheel.

The event is ``{"rows": [{...}], "by": "city", "value": "sales"}``; the answer has, for each group in alphabetical
order, how many rows it has, their total and their mean.
"""

from __future__ import annotations

from typing import Any

import pandas as pd


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    table = pd.DataFrame(event["rows"])
    groups = table.groupby(event["by"])[event["value"]].agg(["count", "sum", "mean"])
    print(f"{len(table)} rows in {len(groups)} groups, request {context.aws_request_id}")
    return {
        "pandas": pd.__version__,
        "groups": {
            str(name): {
                "count": int(row["count"]),
                "total": float(row["sum"]),
                "mean": float(row["mean"]),
            }
            for name, row in groups.iterrows()
        },
    }
