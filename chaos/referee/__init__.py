"""Recomputes every output of a pipeline from its input log, and compares.

Owns: strict reading of records, verdicts, watermarks, windows, aggregates, and the comparison with the tables and topics
found. Never: asks the processor what it thinks is right, or writes to any server.
Data: `log` (records) -> `judge` (verdicts, expected rows and messages) -> `compare`, `messages` (violations);
`inspection` joins them with `database`. All but `log`, `database` and `inspection` are pure.
Tested: `chaos/tests`.
"""
