"""Turns the lines of the Apache log into the events of the demo, as data/NOTICE.md describes."""

import gzip
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

LOG = Path(__file__).parent / "data" / "apache_combined_semicomplete_2015.log.gz"
LINES = 10_000
PAGE_VIEWS = 4_307
SITE = "http://semicomplete.com"

QUOTED = r'"((?:[^"\\]|\\.)*)"'
LINE = re.compile(rf"(\S+) \S+ \S+ \[([^\]]+)\] {QUOTED} (\d{{3}}) \S+ {QUOTED} {QUOTED}")
ASSET = re.compile(
    r"\.(png|jpe?g|gif|ico|css|js|svg|woff|ttf|pdf|xbm|mpg|wav|mp4|zip|t?gz|bz2|rpm|jar)$", re.IGNORECASE
)
DEVICES = [
    ("bot", re.compile("bot|crawl|spider|slurp", re.IGNORECASE)),
    ("tablet", re.compile("ipad|tablet", re.IGNORECASE)),
    ("mobile", re.compile("mobi|android|iphone", re.IGNORECASE)),
]
BROWSERS = [
    ("Edge", re.compile("Edge")),
    ("Opera", re.compile("OPR/|Opera")),
    ("Chrome", re.compile("Chrome/|Chromium/")),
    ("Firefox", re.compile("Firefox/")),
    ("IE", re.compile("MSIE |Trident/")),
    ("Safari", re.compile("Safari/")),
]


@dataclass(frozen=True)
class Message:
    """What goes to Kafka for one line; a line that cannot be parsed goes as it is, without a key."""

    key: bytes | None
    value: bytes


def messages() -> Iterator[Message]:
    with gzip.open(LOG, "rt", encoding="utf-8", newline="\n") as lines:
        for line in lines:
            yield message_of(line.rstrip("\n"))


def message_of(line: str) -> Message:
    event = event_of(line)
    if event is None:
        return Message(None, line.encode())
    return Message(event["user_id"].encode(), json.dumps(event, separators=(",", ":")).encode())


def event_of(line: str) -> dict[str, str | None] | None:
    parts = LINE.fullmatch(line)
    if parts is None:
        return None
    ip, time, request, status, referrer, agent = parts.groups()
    method, target = request.split(" ")[:2]
    return {
        "event_id": sha256(line)[:32],
        "event_time": datetime.strptime(time, "%d/%b/%Y:%H:%M:%S %z")
        .astimezone(UTC)
        .strftime("%Y-%m-%dT%H:%M:%SZ"),
        "user_id": sha256(f"{ip}|{agent}")[:16],
        "page_url": SITE + target,
        "event_type": type_of(method, int(status), target),
        "referrer": None if referrer == "-" else referrer,
        "ip": ip,
        "device_type": "unknown" if agent == "-" else first_match(DEVICES, agent, "desktop"),
        "browser": first_match(BROWSERS, agent, "Other"),
        "session_id": None,
    }


def type_of(method: str, status: int, target: str) -> str:
    if method in ("HEAD", "OPTIONS"):
        return "probe"
    if method == "POST":
        return "submit"
    if status >= 400:
        return "error"
    return "asset" if ASSET.search(target.partition("?")[0]) else "page_view"


def first_match(rules: list[tuple[str, re.Pattern[str]]], text: str, otherwise: str) -> str:
    return next((name for name, rule in rules if rule.search(text)), otherwise)


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
