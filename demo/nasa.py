"""Turns the lines of the NASA log into events, as data/NOTICE.md describes."""

import csv
import gzip
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from demo.events import Message, type_of

LOG = Path(__file__).parent / "data" / "nasa_http_1995-08-01.tsv.gz"
LINES = 30_969
SITE = "http://www.ksc.nasa.gov"


def messages() -> Iterator[Message]:
    with gzip.open(LOG, "rt", encoding="latin-1", newline="\n") as lines:
        for row in csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE):
            event = event_of(row)
            yield Message(event["user_id"].encode(), json.dumps(event, separators=(",", ":")).encode())


def event_of(row: dict[str, str]) -> dict[str, str]:
    time = datetime.fromtimestamp(int(row["time"]), UTC)
    return {
        "event_time": time.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "user_id": row["host"],
        "page_url": SITE + row["url"],
        "event_type": type_of(row["method"], int(row["response"]), row["url"]),
    }
