"""Connection tracking entries of UDP that lead where nobody serves any more."""

from __future__ import annotations

from collections.abc import Iterator

from hairpin.audit.case import Case
from hairpin.audit.report import Finding
from hairpin.plan.conntrack import stale_flows


def judge(case: Case) -> Iterator[Finding]:
    ports = [port for plan in case.plan.plans.values() for port in plan.udp]
    for flow in stale_flows(ports, case.held.flows):
        sent, answer = flow.original, flow.reply
        to = sent.destination
        yield Finding(
            what="stale",
            subject=f"conntrack entry UDP {sent}",
            object=flow,
            owner=case.owners.at("UDP", to, sent.destination_port),
            consequence=f"Datagrams of {sent.source} port {sent.source_port} go on to "
            f"{answer.source}, which serves no more, for as long as they keep coming.",
            mend=(
                f"conntrack -D -p udp --orig-src {sent.source} --orig-dst {to} "
                f"--sport {sent.source_port} --dport {sent.destination_port}",
            ),
        )
