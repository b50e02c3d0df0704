"""Percentiles, latencies, costs and tables are what they are called."""

import pytest

from bench.__main__ import parse
from bench.drain import Drained, Load, Round, best
from bench.hotspots import part_of, summed
from bench.live import latencies_of, percentile
from bench.pipeline import by_user, sliding, with_outputs
from bench.program import Cost
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


def test_ratios_compare_with_the_plain_loop_of_the_same_round():
    def drained(wall: float, processor: float) -> Drained:
        return Drained(1_000, Cost(wall, processor, 0.0, 0.0, 1_024))

    slow, fast = (Round(drained(4.0, cpu), drained(1.0, 1.0), {}) for cpu in (3.0, 2.0))
    assert best([slow, fast]) is fast
    assert fast.figures()["ratio"] == {"throughput": 0.25, "processor_cost": 2.0}


def test_pipelines_have_the_outputs_they_are_asked_for():
    everything = with_outputs("ABD")
    assert set(everything["aggregates"]) == {"page_view_counts", "active_users"} and "records" in everything
    assert "aggregates" not in with_outputs("D")
    assert "records" not in with_outputs("A")
    assert sliding(1)["aggregates"]["page_view_counts"]["window"] == {"tumble": "1m"}
    assert sliding(5)["aggregates"]["page_view_counts"]["window"] == {"slide": "1m", "size": "5m"}
    assert by_user()["aggregates"]["page_view_counts"]["by"] == ["user_id"]


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
