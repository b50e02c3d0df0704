"""The outside judge of millstream, and what torments it.

Owns: the referee (`chaos.referee`), the kill loop, the crash table, the bite test and the outage run.
Never: imports, runs or parses anything of `src/` or `core/` to decide what is right; the rules come from the
semantics page alone.
Data: a pipeline file and its input topics in, a verdict out; the processor is only a process that is started and killed.
Tested: `chaos/tests`.
"""
