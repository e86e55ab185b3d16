// {{name}}: pulls one RTMP stream and never gives up.
//
// Everything that may differ is in here: when to dial, what a failure means, how long to
// wait. The host does the RTMP; this policy sees facts and never a packet. The contract
// is wit/deps/restreamd-plugin/world.wit, written to be read.

import { connect } from "restreamd:plugin/rtmp@{{contract}}";
import { log, nowMs, randomU32, setStatus, wait } from "restreamd:plugin/runtime@{{contract}}";

const PROPERTIES = [
  { name: "url", doc: "The stream to pull: rtmp://host/app/name.", required: true },
  { name: "retryMinMs", doc: "The first wait after a failure, at most.", default: "250" },
  { name: "retryMaxMs", doc: "The longest wait.", default: "10000" },
].map((property) => ({ default: undefined, required: false, secret: false, aliases: [], ...property }));

// Media for so long means that the source is good again.
const GOOD_RUN_MS = 10_000;
// No second attempt follows sooner than this.
const FLOOR_MS = 50;

function parse(list) {
  const given = new Map(list);
  const problems = [];
  for (const key of given.keys()) {
    const known = key === "persist" || PROPERTIES.some((property) => property.name === key);
    if (!known) problems.push({ key, message: "is not a property of this type" });
  }
  const number = (key) => {
    const text = given.get(key) ?? PROPERTIES.find((property) => property.name === key).default;
    const value = Number(text);
    if (!Number.isInteger(value) || value < 1 || value > 3_600_000) {
      problems.push({ key, message: "must be a whole number from 1 to 3600000" });
    }
    return value;
  };
  const settings = { url: given.get("url"), min: number("retryMinMs"), max: number("retryMaxMs") };
  if (!settings.url) problems.push({ key: "url", message: "is required" });
  return { settings, problems };
}

class Pull {
  constructor(settings, former) {
    this.settings = settings;
    // What the build before left: its source, still flowing, how often it had failed, and
    // the rest of its wait, so that a new build on a thousand streams dials nobody early.
    const [failures = 0, high = 0, middle = 0, low = 0] = former?.state ?? [];
    this.source = former?.sources[0];
    this.failures = failures;
    this.due = Number(nowMs()) + high * 65_536 + middle * 256 + low;
  }

  run() {
    for (;;) {
      const now = Number(nowMs());
      if (!this.source && now >= this.due) this.dial();
      const wake = wait(this.source ? undefined : Math.max(0, this.due - Number(nowMs())));
      switch (wake.tag) {
        case "stop":
          return { tag: "stopped" };
        case "upgrade":
          return { tag: "handed-over", val: this.handOver() };
        case "source-ended":
          this.failed(wake.val[1].tag);
          break;
        case "facts":
          this.look();
          break;
        case "reachable":
          this.due = Number(nowMs());
          break;
        case "reconfigured":
          this.reconfigure(wake.val);
          break;
      }
    }
  }

  dial() {
    const { url } = this.settings;
    try {
      this.source = connect(url, { connectTimeoutMs: 0, stallMs: 2500, fcSubscribe: false, tls: { tag: "verify" } });
      this.source.attach();
    } catch (error) {
      // Nothing was dialed: a bad URL, or a limit of this restreamer.
      log("warn", String(error?.payload?.val ?? error));
      this.failed("refused by the host");
    }
  }

  look() {
    const facts = this.source?.facts();
    if (!facts) return;
    if (Number(facts.flowingMs) >= GOOD_RUN_MS) this.failures = 0;
    if (facts.stall) this.failed("stalled");
  }

  failed(why) {
    this.close();
    // Full jitter: evenly up to a bound that doubles.
    const top = Math.min(this.settings.max, this.settings.min * 2 ** Math.min(this.failures, 20));
    // QuickJS gives the upper half of u32 as negative numbers: >>> 0 mends that.
    const random = (randomU32() >>> 0) / 2 ** 32;
    const pause = FLOOR_MS + Math.floor(random * Math.max(0, top - FLOOR_MS));
    this.failures = Math.min(this.failures + 1, 255);
    this.due = Number(nowMs()) + pause;
    setStatus("backing-off", `${why}, attempt ${this.failures}`, pause);
  }

  reconfigure(list) {
    const url = this.settings.url;
    // The host asked check before it told us.
    this.settings = parse(list).settings;
    if (this.settings.url !== url) {
      this.close();
      this.due = Number(nowMs());
    }
  }

  // Closes the connection at once, not when the garbage is collected.
  close() {
    this.source?.[Symbol.dispose]();
    this.source = undefined;
  }

  handOver() {
    const sources = this.source ? [this.source] : [];
    const left = Math.max(0, this.due - Number(nowMs()));
    // An element takes the lowest eight bits of what it is given.
    return { sources, targets: [], state: new Uint8Array([this.failures, left >> 16, left >> 8, left]) };
  }
}

export const restreamer = {
  describe() {
    return { doc: "Pulls one RTMP stream and never gives up.", direction: "feeds", properties: PROPERTIES };
  },

  check(properties) {
    const { problems } = parse(properties);
    if (problems.length) throw problems;
  },

  run(job, former) {
    return new Pull(parse(job.properties).settings, former).run();
  },
};
