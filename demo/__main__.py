"""`./dev demo`: the whole story, from a log file to checked results. Exit status 0 only if everything is right."""

import subprocess
import sys

from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from demo.books import Books, Counts
from demo.events import LINES, PAGE_VIEWS
from demo.processor import Processor
from demo.screen import Screen
from demo.story import Broken, Story
from demo.world import CHECKOUT, PARTITIONS, PIPELINE, TOPICS, World


def main() -> int:
    screen = Screen()
    world = World("demo")
    screen.title("A clean table")
    world.make()
    screen.say(
        f"   topic user_activity with {PARTITIONS} partitions, database {world.database}, state folder {world.state}"
    )
    processor = Processor(world)
    books = Books(world.database_url, world.application)
    try:
        screen.title(
            f"{LINES:,} lines of a real access log through {PIPELINE.relative_to(CHECKOUT)}, three times kill -9"
        )
        counts = Story(world, processor, books, screen).tell()
    except Broken as trouble:
        screen.say(f"\ndemo: {trouble}. The end of {world.log}:\n{processor.log_end()}")
        return 1
    except KeyboardInterrupt:
        screen.say("demo: interrupted")
        return 130
    finally:
        processor.stop()
    return show(screen, world, books, counts)


def show(screen: Screen, world: World, books: Books, counts: Counts) -> int:
    show_results(screen, world, books)
    balanced = show_counts(screen, books, counts)
    screen.title("The referee: an independent program that computes everything again from the input topic")
    right = referee(world)
    show_where_to_look(screen, world)
    return 0 if balanced and right else 1


def show_results(screen: Screen, world: World, books: Books) -> None:
    screen.title("The ten most viewed pages (table page_view_counts)")
    for page, views, minutes in books.top_pages():
        screen.say(f"   {views:>5,} views in {minutes:>3} windows  {page}")
    screen.title("Sessions (table user_sessions): events of a user with no pause of more than half an hour")
    sessions, users, mean, longest = books.sessions()
    screen.say(f"   {sessions:,} sessions of {users:,} users, {mean} s on average, {longest:,} s the longest")
    screen.title("One record of topic enriched_activity")
    screen.say(f"   {one_record(world, 'enriched_activity')}")
    screen.title("Dead letters (table millstream.dead_letters, topic activity.dead-letters)")
    for reason, topic, partition, offset, value in books.dead_letters():
        screen.say(f"   {reason} at {topic}/{partition} offset {offset}: {value} ...")


def show_counts(screen: Screen, books: Books, counts: Counts) -> bool:
    screen.title("The books")
    balanced = counts.balanced() and counts.read == LINES
    screen.say(
        f"   read {counts.read:,} = accepted {counts.accepted:,} + duplicate {counts.duplicate:,} + dead {counts.dead:,}"
        f"   {'balanced' if balanced else 'DOES NOT BALANCE'}"
    )
    counted, too_late = books.page_views(), books.too_late()
    screen.say(
        f"   page views in the table {counted:,}, too late for it {too_late:,}, in the log {PAGE_VIEWS:,}"
    )
    return balanced and counted + too_late == PAGE_VIEWS


def one_record(world: World, topic: str) -> str:
    consumer = Consumer(
        {
            "bootstrap.servers": world.brokers,
            "group.id": "demo-reader",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
        }
    )
    consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in range(PARTITIONS)])
    try:
        message = consumer.poll(30)
        value = None if message is None or message.error() else message.value()
        return "none within 30 s" if value is None else value.decode()
    finally:
        consumer.close()


def referee(world: World) -> bool:
    verdict = subprocess.run(
        [sys.executable, "-m", "chaos.referee", "--pipeline", str(PIPELINE), "--at-end"],
        cwd=CHECKOUT,
        env=world.environment(),
        check=False,
    )
    return verdict.returncode == 0


def show_where_to_look(screen: Screen, world: World) -> None:
    screen.title("Where to look next (the servers stay up until ./dev down)")
    for topic, meaning in TOPICS.items():
        screen.say(f"   topic {topic:<40}{meaning}")
    screen.say(f"   psql {world.database_url}")
    screen.say(
        "        tables page_view_counts, active_users, user_sessions, millstream.dead_letters, millstream.progress;"
        " view millstream.status"
    )
    screen.say('   eval "$(./dev env)"')
    screen.say(
        f"   DATABASE_URL={world.database_url} $MILLSTREAM_BIN status {PIPELINE.relative_to(CHECKOUT)}"
    )
    screen.say(f"   {world.log.relative_to(CHECKOUT)}: what the processor said, through all four starts")
    screen.say("   README.md, docs/architecture.md")


if __name__ == "__main__":
    sys.exit(main())
