"""{{name}}: pulls one RTMP stream and never gives up.

Everything that may differ is in here: when to dial, what a failure means, how long to
wait. The host does the RTMP; this policy sees facts and never a packet. The contract
is wit/deps/restreamd-plugin/world.wit, written to be read.
"""

from dataclasses import dataclass
from typing import List, Optional, Tuple

import wit_world.exports
from componentize_py_types import Err
from wit_world.exports.restreamer import (
    Description,
    Direction,
    Handover,
    Job,
    Outcome,
    Outcome_HandedOver,
    Outcome_Stopped,
    Problem,
    Property,
)
from wit_world.imports import rtmp, runtime
from wit_world.imports.media import Source
from wit_world.imports.types import TlsCheck_Verify

Properties = List[Tuple[str, str]]

# Media for so long means that the source is good again.
GOOD_RUN_MS = 10_000
# No second attempt follows sooner than this.
FLOOR_MS = 50

PROPERTIES = [
    Property("url", "The stream to pull: rtmp://host/app/name.", None, True, False, []),
    Property("retryMinMs", "The first wait after a failure, at most.", "250", False, False, []),
    Property("retryMaxMs", "The longest wait.", "10000", False, False, []),
]


@dataclass
class Settings:
    url: str
    retry_min: int
    retry_max: int


def parse(given: Properties) -> Tuple[Settings, List[Problem]]:
    values, problems = dict(given), []
    known = {"persist", *(p.name for p in PROPERTIES)}
    problems += [Problem(key, "is not a property of this type") for key in values if key not in known]

    def number(key: str) -> int:
        default = next(p.default for p in PROPERTIES if p.name == key)
        text = values.get(key, default)
        if text.isdecimal() and 1 <= int(text) <= 3_600_000:
            return int(text)
        problems.append(Problem(key, "must be a whole number from 1 to 3600000"))
        return 1

    settings = Settings(values.get("url", ""), number("retryMinMs"), number("retryMaxMs"))
    if not settings.url:
        problems.append(Problem("url", "is required"))
    return settings, problems


class Pull:
    def __init__(self, settings: Settings, former: Optional[Handover]):
        self.settings = settings
        # What the build before left: its source, still flowing, how often it had failed, and
        # the rest of its wait, so that a new build on a thousand streams dials nobody early.
        self.source: Optional[Source] = former.sources[0] if former and former.sources else None
        state = former.state if former else b""
        self.failures = state[0] if state else 0
        self.due = runtime.now_ms() + int.from_bytes(state[1:], "big")

    def run(self) -> Outcome:
        while True:
            if self.source is None and runtime.now_ms() >= self.due:
                self.dial()
            pause = None if self.source else max(0, self.due - runtime.now_ms())
            match runtime.wait(pause):
                case runtime.Wake_Stop():
                    return Outcome_Stopped()
                case runtime.Wake_Upgrade():
                    return Outcome_HandedOver(self.hand_over())
                case runtime.Wake_SourceEnded((_, error)):
                    self.failed(type(error).__name__.removeprefix("IoError_"))
                case runtime.Wake_Facts():
                    self.look()
                case runtime.Wake_Reachable():
                    self.due = runtime.now_ms()
                case runtime.Wake_Reconfigured(properties):
                    self.reconfigure(properties)

    def dial(self) -> None:
        options = rtmp.ConnectOptions(
            connect_timeout_ms=0,
            stall_ms=2_500,
            swf_url=None,
            page_url=None,
            flash_ver=None,
            fc_subscribe=False,
            tls=TlsCheck_Verify(),
        )
        try:
            self.source = rtmp.connect(self.settings.url, options)
            self.source.attach()
        except Err as error:
            # Nothing was dialed: a bad URL, or a limit of this restreamer.
            runtime.log(runtime.Level.WARN, str(error.value))
            self.failed("refused by the host")

    def look(self) -> None:
        if self.source is None:
            return
        facts = self.source.facts()
        if facts.flowing_ms >= GOOD_RUN_MS:
            self.failures = 0
        if facts.stall is not None:
            self.failed("stalled")

    def failed(self, why: str) -> None:
        self.close()
        # Full jitter: evenly up to a bound that doubles.
        top = min(self.settings.retry_max, self.settings.retry_min << min(self.failures, 20))
        pause = FLOOR_MS + max(0, top - FLOOR_MS) * runtime.random_u32() // 2**32
        self.failures = min(self.failures + 1, 255)
        self.due = runtime.now_ms() + pause
        runtime.set_status(runtime.Phase.BACKING_OFF, f"{why}, attempt {self.failures}", pause)

    def reconfigure(self, properties: Properties) -> None:
        url = self.settings.url
        # The host asked check before it told us.
        self.settings, _ = parse(properties)
        if self.settings.url != url:
            self.close()
            self.due = runtime.now_ms()

    def close(self) -> None:
        """Closes the connection at once, not when the garbage is collected."""
        if self.source is not None:
            self.source.__exit__(None, None, None)
            self.source = None

    def hand_over(self) -> Handover:
        left = max(0, self.due - runtime.now_ms())
        state = bytes([self.failures]) + left.to_bytes(4, "big")
        return Handover([self.source] if self.source else [], [], state)


class Restreamer(wit_world.exports.Restreamer):
    def describe(self) -> Description:
        return Description("Pulls one RTMP stream and never gives up.", Direction.FEEDS, PROPERTIES)

    def check(self, properties: Properties) -> None:
        _, problems = parse(properties)
        if problems:
            raise Err(problems)

    def run(self, job: Job, former: Optional[Handover]) -> Outcome:
        settings, _ = parse(job.properties)
        return Pull(settings, former).run()
