"""A pipeline of sessions in memory, and its table and view as right rows, for tests that then spoil one thing."""

from __future__ import annotations

from chaos.referee import instant

from .worlds import World

DAY = "2026-01-30T"
SESSIONS = """
version: 1
name: sample
sources:
  activity:
    topic: { name: events }
    fields: { event_time: timestamp!, user_id: text!, event_type: text!, amount: bigint }
    event_time: event_time
    watermark: { delay: 10s, max_future: 5m }
    keyed_by: user_id
bad_data: { topic: "{source}.dead-letters", table: dead_letters }
late: { allowed_lateness: 1m, topic: "{source}.late" }
aggregates:
  visits:
    from: activity
    where: event_type <> 'noise'
    window: { session: 30m }
    by: [user_id]
    select:
      events: count(*)
      views: "count(*) filter (where event_type = 'view')"
      total: sum(amount)
      least: min(amount)
      late: late_rows()
    to: { table: visits, key: [user_id, session_start_time], latest: [user_id] }
"""
CUT = SESSIONS.replace("session: 30m", "session: 30m, max_duration: 1h")


def at(text: str) -> int:
    return instant.parse(f"{DAY}{text}Z")


def hit(time: str, user: str = "u", kind: str = "view", **more: object) -> dict:
    return {"event_time": f"{DAY}{time}Z", "user_id": user, "event_type": kind, **more}


def world(*events: dict, text: str = SESSIONS) -> World:
    return World(text).add(*events)


def spans(made: World, user: str = "u", name: str = "visits") -> list[tuple[str, str, int]]:
    """First time, last time and number of events of each session, in time order; times without trailing zeros."""
    (source,) = made.referee().sources.values()
    (aggregate,) = (one for one in source.aggregates if one.name == name)
    return sorted(
        (short(key[0]), short(aggregate.ends(key)[0]), states[0])
        for key, states in aggregate.rows.items()
        if key[1] == user
    )


def short(micros: int) -> str:
    return instant.to_text(micros)[11:-1].removesuffix(".000000").removesuffix(":00")
