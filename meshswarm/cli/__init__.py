"""The command line: typer commands and how what they learn is shown.

*Invariants:* stdout is data, stderr is talk; every listing has the same five formats, and its JSON
keys only ever grow; every wait has a deadline and ends with a reason; an error is printed, and
becomes an exit code, in one place (`main`).
Reading order: `main`, `options`, `reach` (which cluster), `rows` (pure: a view becomes rows),
`show`, `waiting` (pure: what a rollout still lacks), then one module a command group.
Deliberately absent: decisions about the cluster (`control`), reading Compose files (`compose`).
Heavy modules are imported inside commands, so that `--help` and completion stay fast.
"""
