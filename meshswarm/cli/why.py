"""`meshswarm why`: for each slot that is missing or unhealthy, the reason; how a job goes."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import typer

from meshswarm.cli.arguments import ServiceOrJob
from meshswarm.cli.options import Format, Output, options_of
from meshswarm.cli.talk import age, now_ms

if TYPE_CHECKING:
    from meshswarm.control.why import Exit, SlotReport, WhyReport


def why(
    ctx: typer.Context,
    service: ServiceOrJob,
    output: Output = None,
) -> None:
    """Say what keeps a service from being whole: slot by slot, and node by node.

    Of a job: when it fires, which fires were skipped and why, and how its last run stands; a run
    is named `JOB-NUMBER`.

    Example: `meshswarm why shop_web`
    """
    from meshswarm.cli.reach import ask
    from meshswarm.cli.rows import plain
    from meshswarm.cli.show import show_document
    from meshswarm.control.why import why as explain
    from meshswarm.control.why_job import why_job

    options = options_of(ctx, output)
    view = ask(options, lambda client: client.read())
    moment, job = now_ms(), view.job_named(service)
    of_job = None
    report: WhyReport | None
    if job is not None and view.service_named(service) is None:
        of_job = why_job(view, job, moment)
        report = of_job.run
    else:
        report = explain(view, view.find_service(service), moment)
    if options.format in (Format.JSON, Format.YAML):
        show_document(options, plain(of_job or report))
        return
    lines = [] if of_job is None or options.format is Format.NAME else [*of_job.summary]
    if report is not None:
        is_short = options.format is Format.NAME
        slots = (_name(report, slot) for slot in report.slots)
        lines += slots if is_short else in_lines(report, moment)
    if lines:
        print("\n".join(lines))


def in_lines(report: "WhyReport", moment_ms: int) -> Iterator[str]:
    """The report as a person reads it."""
    yield from report.summary
    for slot in report.slots:
        state = "missing" if slot.state is None else slot.state.label
        where = "" if slot.node is None else f" on {slot.node}"
        since = "" if not slot.since_ms else f" for {age(slot.since_ms, moment_ms)}"
        yield ""
        said = f": {slot.message}" if slot.message else ""
        yield f"{_name(report, slot)} {state}{where}{since}{said}"
        for node, reasons in slot.refusals.items():
            yield f"  {node} {', and '.join(reasons) or 'could take it'}"
        for end in slot.exits:
            yield f"  {_ended(end, moment_ms)}"


def _name(report: "WhyReport", slot: "SlotReport") -> str:
    return f"{report.service}.{slot.slot or slot.node}"


def _ended(end: "Exit", moment_ms: int) -> str:
    said = end.message or end.reason.value
    is_told = end.exit_code is None or f"exit code {end.exit_code}" in said
    code = "" if is_told else f" with exit code {end.exit_code}"
    where = "" if end.node is None else f" on {end.node}"
    when = f"{age(end.at_ms, moment_ms)} ago"
    return f"before: {end.state.label}{where} {when}{code}: {said}"
