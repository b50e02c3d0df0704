"""Percentiles, latencies, costs and tables are what they are called."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

import bench.sweep
from bench.__main__ import parse
from bench.drain import Drained, Load, Round, as_json, best, median_ratio
from bench.hotspots import part_of, summed
from bench.live import latencies_of, percentile
from bench.pipeline import by_user, remembering, sliding, through_hop, with_outputs
from bench.program import Cost, plain_command, run_command
from bench.sweep import SWEEPS, beside_plain, results
from bench.table import table


def test_percentile_is_the_least_that_so_many_do_not_exceed():
    ordered = [float(number) for number in range(1, 101)]
    assert [percentile(ordered, percent) for percent in (50, 99, 99.9, 100)] == [50, 99, 100, 100]
    assert percentile([7.0], 50) == 7.0


def test_latencies_pair_records_by_partition_and_leave_out_the_first_seconds():
    sent = [[1_000, 2_000, 3_000], [1_500, 2_500]]
    arrived = [[1_010, 2_030, 3_005], [1_600, 2_520]]
    assert latencies_of(sent, arrived, 1) == [5, 20, 30]
    with pytest.raises(ValueError):
        latencies_of(sent, [arrived[0], [1_600]], 1)


def test_cost_of_an_event_is_without_that_of_an_idle_run():
    cost = Cost(12.0, 5.0, 3.0, 2.0, 204_800).less(Cost(2.0, 1.0, 1.0, 2.5, 102_400))
    figures = Drained(1_000_000, cost).figures()
    assert figures == {
        "events": 1_000_000,
        "seconds": 10.0,
        "events_per_second": 100_000.0,
        "processor_us": 4.0,
        "broker_us": 2.0,
        "postgres_us": 0.0,
        "peak_rss_mib": 200.0,
    }


def test_load_too_small_to_be_told_from_an_idle_run_has_no_throughput():
    figures = Drained(10, Cost(1.0, 0.5, 0.0, 0.0, 1_024).less(Cost(1.1, 0.4, 0.0, 0.0, 1_024))).figures()
    assert figures["events_per_second"] is None
    assert table(["", "n"], [["a", figures["events_per_second"]]]) == "   n\na  -"


def drained(wall: float, processor: float) -> Drained:
    return Drained(1_000, Cost(wall, processor, 0.0, 0.0, 1_024))


def a_round(wall: float, processor: float, with_plain: bool = True) -> Round:
    return Round(drained(wall, processor), drained(1.0, 1.0) if with_plain else None, {"t": 7}, 5.0)


def test_ratios_compare_with_the_plain_loop_of_the_same_round():
    slow, fast = a_round(4.0, 3.0), a_round(4.0, 2.0)
    assert best([slow, fast]) is fast
    assert fast.figures()["ratio"] == {"throughput": 0.25, "processor_cost": 2.0}


def test_ratio_shown_is_the_median_of_the_rounds_not_that_of_the_cheapest():
    rounds = [a_round(2.0, 1.0), a_round(8.0, 3.0), a_round(4.0, 4.0)]
    assert median_ratio(rounds) == {"throughput": 0.25, "processor_cost": 3.0}
    assert median_ratio([a_round(-1.0, 2.0)]) == {"throughput": None, "processor_cost": 2.0}
    result = as_json(Load(1_000, 3), 2, rounds)
    assert result["best"]["ratio"] == {"throughput": 0.5, "processor_cost": 1.0}
    assert result["median_ratio"] == {"throughput": 0.25, "processor_cost": 3.0}
    assert (result["workers"], result["plain_members"]) == (2, 2)


def test_plain_loop_has_as_many_members_as_the_processor_has_workers(monkeypatch):
    monkeypatch.setenv("MILLSTREAM_BIN", "millstream")
    monkeypatch.setenv("MILLSTREAM_PLAIN_BIN", "plain")
    corner = SimpleNamespace(name="c", folder=Path("f"), topics={"input": "i", "copied": "o"})
    own = run_command(Path("p.yaml"), corner, 3, "--until-end")
    assert own[own.index("--workers") + 1] == "3"
    assert plain_command(corner, 3) == ["plain", "i", "o", "c-plain", "bench", "3"]


def test_workers_are_one_per_core_unless_told_otherwise():
    cores = len(os.sched_getaffinity(0))
    assert [parse([name]).workers for name in ("drain", "live", "hotspots")] == [cores] * 3
    assert parse(["drain", "--workers", "7"]).workers == 7


def test_sweeps_have_one_worker_and_the_plain_loop_at_both_ends(monkeypatch):
    asked = []

    def drain(_pipeline: dict, load: Load, workers: int, with_plain: bool) -> Round:
        asked.append((load.partitions, workers, with_plain))
        return a_round(2.0, 3.0, with_plain)

    monkeypatch.setattr(bench.sweep, "drain", drain)
    found = list(results(SWEEPS["partitions"], 1_000, [1, 2, 4], 2))
    assert asked == [(1, 1, True)] * 2 + [(2, 1, False)] * 2 + [(4, 1, True)] * 2
    assert [beside_plain(result) for result in found] == [[1_000.0, 1_000.0, 0.5, 3.0], [None] * 4] + [
        [1_000.0, 1_000.0, 0.5, 3.0]
    ]
    for name, sweep in SWEEPS.items():
        assert [sweep.point(n, 1_000).workers for n in (1, 2)] == ([1, 2] if name == "workers" else [1, 1])


def test_pipelines_have_the_outputs_they_are_asked_for():
    everything = with_outputs("ABD")
    assert set(everything["aggregates"]) == {"page_view_counts", "active_users"} and "records" in everything
    assert "aggregates" not in with_outputs("D")
    assert "records" not in with_outputs("A")
    assert sliding(1)["aggregates"]["page_view_counts"]["window"] == {"tumble": "1m"}
    assert sliding(5)["aggregates"]["page_view_counts"]["window"] == {"slide": "1m", "size": "5m"}
    assert by_user()["aggregates"]["page_view_counts"]["by"] == ["user_id"]


def test_dedup_and_the_hop_are_added_to_the_source_alone():
    plain, more = with_outputs("AD"), through_hop(remembering(with_outputs("AD")))
    (source,) = more.pop("sources").values()
    assert source["repartition_by"] == "user_id" and "keyed_by" not in source
    assert source["dedup"]["key"] == ["event_id"] and "event_id" in source["fields"]
    assert more == {name: part for name, part in plain.items() if name != "sources"}


def test_load_tells_the_generator_what_it_is():
    assert Load(1, 1).options() == ["--seed", "1"]
    assert Load(1, 1, users=7, seed=3).options() == ["--seed", "3", "--users", "7"]


def test_samples_are_summed_by_what_the_code_is_for():
    report = """
# Overhead;Command    ;Shared Object    ;Symbol
 40.00% ;worker-0   ;millstream       ;[.] millstream_core::codec::fast::scan
 5.50%  ;worker-0   ;millstream       ;[.] millstream_core::codec::splice::splice
 10.00% ;rdk:broker1;millstream       ;[.] LZ4_compress_fast
 4.00%  ;rdk:broker1;[kernel.kallsyms];[k] copy_user_generic
    """
    found = summed(report)
    assert found["parts"] == {"decode JSON": 40.0, "compression": 10.0, "splice": 5.5, "kernel": 4.0}
    assert found["threads"] == {"worker-0": 45.5, "rdk:broker1": 14.0}
    assert part_of("rd_kafka_produce_batch") == "Kafka client"
    assert part_of("rocksdb::DBImpl::Write") == "state"
    assert part_of("something_else") == "other"


def test_table_puts_numbers_right():
    assert table(["name", "n"], [["a", 1_234], ["bcd", 5]]) == "name      n\na     1,234\nbcd       5"


def test_drain_is_the_default_command():
    assert parse(["--events", "1_000"]).command == "drain"
    assert parse([]).events == 2_000_000
    assert parse(["sweep", "keys", "--points", "1,20"]).points == [1, 20]
    assert parse(["sweep"]).sweeps == []
    with pytest.raises(SystemExit):
        parse(["sweep", "colours"])
    with pytest.raises(SystemExit):
        parse(["drain", "--outputs", "X"])
