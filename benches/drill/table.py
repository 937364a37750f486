"""The results as a table, one row a fault, and below it all that is false or silent."""

HEADS = "fault kind log metrics readyz accounts page check app slowest told over alert verdict".split()


def print_table(results, out):
    rows = [HEADS, *(row(result) for result in results)]
    widths = [max(len(row[at]) for row in rows) for at in range(len(HEADS))]
    for cells in rows:
        line = "  ".join(cell.ljust(width) for cell, width in zip(cells, widths))
        print(line.rstrip(), file=out)


def row(result):
    said, fault = result.phases.get("during"), result.fault
    kind = fault.want.kind or "-"
    if said is None:
        return (fault.name, kind, *[""] * 11, result.verdict)
    kinds = sorted({kind for _, kind in said.open_kinds()})
    problems = said.problems
    over = "no end" if fault.endless else "-" if "after" not in result.phases else seconds(result.over_after)
    return (
        fault.name,
        kind,
        f"{sum(line['level'] in ('WARN', 'ERROR') for line in said.log)} warn.",
        "no answer" if said.metrics is None else ",".join(kinds) or "-",
        "no answer" if said.readyz is None else str(said.readyz[0]),
        "no list" if problems is None else f"{len(problems)} open",
        "no answer" if said.page is None else f"{said.page['problems_open']} open",
        "-" if said.check is None else f"exit {said.check[0]}",
        app(said),
        f"{max((sample.took for sample in said.samples), default=0):.1f} s",
        seconds(result.told_after) if fault.want.kind and fault.want.admin else "-",
        over,
        alerts(result),
        result.verdict,
    )


def app(said):
    outcomes = {}
    for sample in said.samples:
        outcomes[sample.outcome] = outcomes.get(sample.outcome, 0) + 1
    most = sorted(outcomes, key=outcomes.get, reverse=True)[:2]
    return ", ".join(f"{outcomes[outcome]}×{outcome}" for outcome in most)


def alerts(result):
    """With the minutes after which each fires."""
    found = sorted(result.fired.items(), key=lambda pair: (pair[1], pair[0].name))
    names = dict.fromkeys((alert.name.removeprefix("Wechat"), minutes) for alert, minutes in found)
    return ", ".join(f"{name} {minutes} min" for name, minutes in names) or "none"


def seconds(value):
    return "never" if value is None else f"{value:.0f} s"


def print_findings(results, out):
    for result in results:
        if result.broken:
            print(f"\n{result.fault.name} could not be tried: {result.broken}", file=out)
        if result.findings:
            print(f"\n{result.fault.name}: {result.fault.text}", file=out)
        for finding in dict.fromkeys(result.findings):
            print(f"  {finding.verdict:6} {finding.channel}: {finding.why}", file=out)
    for result in results:
        fault = result.fault
        if fault.endless:
            print(f"\n{fault.name} is not ended: {fault.endless}", file=out)
        elif fault.long and "after" not in result.phases:
            print(f"\n{fault.name} is ended with --long only", file=out)
