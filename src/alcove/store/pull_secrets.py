"""Credentials for the images of one pod, beside its manifest: who may see the one may not see the other."""

from __future__ import annotations

import sqlite3


def put(connection: sqlite3.Connection, uid: str, secrets: str) -> None:
    """``secrets`` is JSON; "" is none."""
    if secrets:
        connection.execute("INSERT INTO pull_secrets (uid, secrets) VALUES (?, ?)", (uid, secrets))


def get(connection: sqlite3.Connection, uid: str) -> str:
    row = connection.execute("SELECT secrets FROM pull_secrets WHERE uid=?", (uid,)).fetchone()
    return "" if row is None else str(row[0])
