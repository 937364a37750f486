"""Runs one fault from its beginning to its end, and hears all channels in each phase."""

import asyncio
import time
from dataclasses import dataclass, field

from drill import alerts, channels, judge, page
from drill.fault import Fault
from drill.scene import Scene

# While a fault goes on, its metrics are scraped every so many seconds.
SCRAPE_INTERVAL = 5


@dataclass
class Result:
    """What was said in each phase, and what is wrong with it."""

    fault: Fault
    phases: dict = field(default_factory=dict)
    findings: list = field(default_factory=list)
    # Seconds until the problem was told, and from the fault's end until all was well again.
    told_after: float | None = None
    over_after: float | None = None
    # The metrics before the fault and during it, for the alerts; and what fires: {alert: minutes}.
    series: alerts.Series | None = None
    fired: dict = field(default_factory=dict)
    # Why the fault could not be tried.
    broken: str = ""

    @property
    def verdict(self):
        return "BROKEN" if self.broken else judge.verdict(self.findings)

    def as_json(self):
        return {
            "fault": self.fault.name,
            "text": self.fault.text,
            "kind": self.fault.want.kind,
            "verdict": self.verdict,
            "broken": self.broken,
            "findings": [vars(finding) for finding in self.findings],
            "told_after_seconds": self.told_after,
            "over_after_seconds": self.over_after,
            "not_ended": self.fault.endless,
            "alerts": [{**vars(alert), "minutes": at} for alert, at in self.fired.items()],
            "phases": {name: said.as_json() for name, said in self.phases.items()},
        }


async def run(fault, with_long):
    """The result; never an exception."""
    scene, result = Scene(fault.name), Result(fault)
    try:
        await play(fault, scene, result, with_long)
    except Exception as error:
        result.broken = f"{type(error).__name__}: {error}"
    finally:
        await scene.end()
    return result


async def play(fault, scene, result, with_long):
    await fault.setup(scene)
    await scene.start_fake()
    await fault.before(scene)
    if fault.at_start and fault.cause:
        await fault.cause(scene)
    await scene.start_sidecar()
    began = time.monotonic()
    scene.start_apps()
    line, before = 0, None
    if not fault.at_start:
        said = await hear_calm(scene, result, began)
        before = alerts.Scrape(began, alerts.samples(said.metrics))
        began, line = time.monotonic(), len(scene.log())
        if fault.cause:
            await fault.cause(scene)
    scrapes = []
    scraping = scene.every(SCRAPE_INTERVAL, lambda: scrape(scene, scrapes))

    async def is_told():
        problems = await scene.problems() or []
        return any(problem["kind"] == fault.want.kind for problem in problems)

    if fault.want.kind and fault.want.admin:
        result.told_after = await scene.until(is_told, fault.tell_within)
    await asyncio.sleep(fault.go_on)
    scraping.cancel()
    result.phases["during"] = said = await channels.hear(scene, began, line)
    scrapes.append(alerts.Scrape(time.monotonic(), alerts.samples(said.metrics)))
    result.series = alerts.Series(before, scrapes, said.pauses())
    result.findings += await judged(fault, scene, said)
    if fault.end and (with_long or not fault.long):
        await recover(fault, scene, result)


async def hear_calm(scene, result, began):
    """What is said before the fault."""
    if await scene.until(scene.is_calm, 30) is None:
        raise RuntimeError(f"it is not well before the fault: {scene.sidecar.tail()}")
    await asyncio.sleep(2)
    result.phases["before"] = said = await channels.hear(scene, began, 0, with_check=False)
    result.findings += judge.of_calm(said, "before") + page.of_calm(said, "before") + judge.leaks(said, "before")
    return said


async def scrape(scene, scrapes):
    at, reply = time.monotonic(), await scene.operator("/metrics")
    scrapes.append(alerts.Scrape(at, alerts.samples(reply and reply.text())))


async def judged(fault, scene, said):
    """What is wrong with what was said during the fault."""
    words = judge.words_of(fault.want, scene.folder)
    if fault.want.kind is None and fault.cause is None:
        found = judge.of_calm(said, "during", alone=True) + page.of_calm(said, "during")
    else:
        found = judge.of_fault(fault, said, words) + page.of_fault(fault.want, said, words)
    found += judge.leaks(said, "during")
    return found + [judge.Finding(judge.FALSE, channel, why) for channel, why in await fault.extra(scene, said)]


def tell_alerts(results):
    """What would fire, and what is wrong with that. Prometheus needs all of them at once."""
    heard = {result.fault.name: result for result in results if result.series}
    fired = alerts.fired({name: result.series for name, result in heard.items()}) if heard else {}
    for name, alone in fired.items():
        heard[name].fired = alone
        heard[name].findings += judge.of_alerts(heard[name].fault, alone)


async def recover(fault, scene, result):
    line = len(scene.log())
    await fault.end(scene)
    patience = 1500 if fault.long else fault.over_within
    # Calls that were sent before the end may still meet the fault.
    await asyncio.sleep(2.5)
    result.over_after = await scene.until(scene.is_calm, patience)
    # The calls of the last two seconds are the ones that went well.
    result.phases["after"] = said = await channels.hear(scene, time.monotonic() - 2, line)
    result.findings += judge.of_end(fault, said) + page.of_end(fault.want, said) + judge.leaks(said, "after")
