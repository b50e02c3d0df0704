"""The outside judge of millstream, and what torments it.

Owns: the referee (`chaos.referee`), the fault proxy (`chaos.proxy`), and the programs that use them: kill loop, crash table,
bite test, outages, faults on the wire, frozen owners.
Never: imports, runs or parses anything of `src/` or `core/` to decide what is right; the rules come from the
semantics page alone.
Data: a pipeline file and its input topics in, a verdict out; the processor is only a process that is started and killed.
Tested: `chaos/tests`.
"""
