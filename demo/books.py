"""What the processor has written down: asked of PostgreSQL, as any reader would."""

from dataclasses import dataclass

import psycopg
from psycopg import errors

COUNTS = """
select coalesce(sum(read), 0)::bigint, coalesce(sum(accepted), 0)::bigint,
       coalesce(sum(duplicate), 0)::bigint, coalesce(sum(dead), 0)::bigint
from millstream.progress where application = %s
"""
TOP_PAGES = """
select page_url, sum(view_count)::bigint as views, count(*) as minutes
from page_view_counts group by page_url order by views desc, page_url limit 10
"""
PAGE_VIEWS = "select coalesce(sum(view_count), 0)::bigint from page_view_counts"
SESSIONS = """
select count(*), count(distinct user_id), round(avg(session_duration_seconds)), max(session_duration_seconds)
from user_sessions
"""
TOO_LATE = """
select coalesce(sum((aggregates -> 'page_view_counts' ->> 'too_late')::bigint), 0)::bigint
from millstream.progress where application = %s
"""
DEAD_LETTERS = """
select reason, topic, partition, "offset", left(convert_from(value, 'UTF8'), 60)
from millstream.dead_letters where application = %s order by 2, 3, 4 limit 5
"""


@dataclass(frozen=True)
class Counts:
    read: int = 0
    accepted: int = 0
    duplicate: int = 0
    dead: int = 0

    def balanced(self) -> bool:
        return self.read == self.accepted + self.duplicate + self.dead


class Books:
    def __init__(self, url: str, application: str) -> None:
        self._connection = psycopg.connect(url, autocommit=True)
        self._application = application

    def counts(self) -> Counts:
        try:
            row = self._connection.execute(COUNTS, [self._application]).fetchone()
        except errors.UndefinedTable:  # before the first start has made it
            return Counts()
        assert row is not None
        return Counts(*row)

    def top_pages(self) -> list[tuple]:
        return self._connection.execute(TOP_PAGES).fetchall()

    def sessions(self) -> tuple:
        """How many, of how many users, and how many seconds they last: on average, and the longest."""
        row = self._connection.execute(SESSIONS).fetchone()
        assert row is not None
        return row

    def page_views(self) -> int:
        return self._number(PAGE_VIEWS)

    def too_late(self) -> int:
        return self._number(TOO_LATE, [self._application])

    def dead_letters(self) -> list[tuple]:
        return self._connection.execute(DEAD_LETTERS, [self._application]).fetchall()

    def _number(self, query: str, arguments: list[str] | None = None) -> int:
        row = self._connection.execute(query, arguments).fetchone()
        assert row is not None
        return row[0]
