"""Turns the lines of the NASA log into events, as data/NOTICE.md describes."""

import gzip
import hashlib
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from demo.events import Message, type_of

LOG = Path(__file__).parent / "data" / "nasa_http_1995-08-01.tsv.gz"
LINES = 30_969
SITE = "http://www.ksc.nasa.gov"
ADDRESS = re.compile(r"\d+\.\d+\.\d+\.\d+")


def messages() -> Iterator[Message]:
    with gzip.open(LOG) as lines:
        names = next(lines).decode("latin-1").rstrip("\n").split("\t")
        for raw in lines:
            line = raw.rstrip(b"\n")
            row = dict(zip(names, line.decode("latin-1").split("\t"), strict=True))
            event = {"event_id": hashlib.sha256(line).hexdigest()[:32], **event_of(row)}
            yield Message(event["user_id"].encode(), json.dumps(event, separators=(",", ":")).encode())


def event_of(row: dict[str, str]) -> dict[str, str | None]:
    time = datetime.fromtimestamp(int(row["time"]), UTC)
    return {
        "event_time": time.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "user_id": row["host"],
        "page_url": SITE + row["url"],
        "event_type": type_of(row["method"], int(row["response"]), row["url"]),
        "referrer": None,
        "ip": row["host"] if ADDRESS.fullmatch(row["host"]) else None,
    }
