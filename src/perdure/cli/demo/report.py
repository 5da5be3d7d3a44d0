"""What has come of a demo: the counts, the faults and their price, and the verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from perdure.cli.output import print_line, print_styled
from perdure.demo.faults import Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from perdure.demo.events import Report

__all__ = ["print_report"]

_NAMES: Final[Mapping[Kind, str]] = {
    Kind.STOP: "stopped by SIGTERM",
    Kind.KILL: "killed by SIGKILL",
    Kind.FREEZE: "frozen by SIGSTOP for longer than its lease, thawed by SIGCONT",
}


def print_report(report: Report) -> None:
    """Print it."""
    print_line("")
    print_line("rows        " + ", ".join(f"{count:,} {table}" for table, count in report.counts.items()))
    print_line(
        f"the job     {report.job_seconds:.1f} s in {report.attempts} attempts; in one go, without a job, "
        f"{report.plain_seconds:.1f} s"
    )
    lost_seconds = sum(fault.lost_seconds for fault in report.survived)
    print_line(f"faults      {len(report.survived)} survived, {lost_seconds:.1f} s lost until another worker went on")
    for kind, name in _NAMES.items():
        of_kind = [fault.lost_seconds for fault in report.survived if fault.kind is kind]
        if of_kind:
            print_line(f"            {len(of_kind)} x a worker {name}: {sum(of_kind):.1f} s")
    for difference in report.differences:
        print_line(f"difference  {difference}")
    verdict = ("yes", "bold green") if report.is_exact else ("NO", "bold red")
    print_styled(("exactly once: ", "bold"), verdict)
