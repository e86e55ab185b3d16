// Plays the stream that the page's address names (/watch/live/a or /watch?stream=live/a)
// and comes back to it, for as long as the page is open.
"use strict";

const query = new URLSearchParams(location.search);
const path = decodeURIComponent(location.pathname.replace(/^\/watch\/?/, ""));
const stream = (path || query.get("stream") || "").replace(/\.flv$/, "");
const video = document.getElementById("video");
const state = document.getElementById("state");

// Waits between attempts: short at first, and never long for a person who watches.
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 5000;
// A hole in what is buffered that playback will not cross by itself.
const LOOK_MS = 500;

let player = null;
let wait = FIRST_WAIT_MS;
let again = null;
let stood = { at: -1, looks: 0 };

function say(text) {
  state.value = text;
}

function address() {
  const name = stream.split("/").map(encodeURIComponent).join("/");
  const token = query.get("token");
  const suffix = token ? "&token=" + encodeURIComponent(token) : "";
  // mpegts.js takes several tracks and metadata packets for errors.
  return location.origin + "/flv/" + name + ".flv?tracks=one" + suffix;
}

function stop() {
  if (player) {
    const old = player;
    player = null;
    old.destroy();
  }
}

// What a person can do something about: there is no stream, or not for this browser.
function trouble(kind, detail, info) {
  const details = mpegts.ErrorDetails;
  const unfit = [details.MEDIA_CODEC_UNSUPPORTED, details.MEDIA_FORMAT_UNSUPPORTED, details.MEDIA_MSE_ERROR];
  const told = info && info.msg ? " (" + info.msg + ")" : "";
  if (unfit.includes(detail)) {
    unplayable(told);
  } else if (info && info.code > 0) {
    retry("no stream (" + info.code + ")");
  } else {
    retry((detail || kind) + told);
  }
}

// The codec may be another one later, but hardly soon.
function unplayable(told) {
  wait = LONGEST_WAIT_MS;
  retry("this browser cannot play the stream's codec" + told);
}

function retry(why) {
  stop();
  say(why + ", trying again");
  clearTimeout(again);
  again = setTimeout(start, wait);
  wait = Math.min(wait * 2, LONGEST_WAIT_MS);
}

function start() {
  stop();
  stood = { at: -1, looks: 0 };
  const made = mpegts.createPlayer(
    { type: "flv", isLive: true, url: address() },
    { enableStashBuffer: false, liveSync: true, autoCleanupSourceBuffer: true, lazyLoad: false },
  );
  player = made;
  // A player that was replaced has nothing more to say.
  const mine = (then) => (...told) => { if (player === made) then(...told); };
  // Not before it has told all: it does not expect to be destroyed meanwhile.
  made.on(mpegts.Events.ERROR, (...told) => setTimeout(mine(trouble), 0, ...told));
  made.on(mpegts.Events.LOADING_COMPLETE, mine(() => retry("the stream ended")));
  made.attachMediaElement(video);
  made.load();
  const playing = made.play();
  if (playing) {
    // A browser that wants a click first shows the controls.
    playing.catch(() => {});
  }
}

// Media is there, but beyond a hole: jump over it. All of it is behind: wait.
function look() {
  if (!player || video.paused || video.seeking) {
    return;
  }
  if (video.currentTime !== stood.at) {
    stood = { at: video.currentTime, looks: 0 };
    return;
  }
  stood.looks += 1;
  if (stood.looks < 2) {
    return;
  }
  for (let n = 0; n < video.buffered.length; n += 1) {
    const begin = video.buffered.start(n);
    if (begin > video.currentTime) {
      video.currentTime = begin + 0.01;
      return;
    }
  }
}

video.addEventListener("playing", () => {
  wait = FIRST_WAIT_MS;
  say("live");
});
video.addEventListener("waiting", () => say("waiting for media"));
video.addEventListener("error", () => {
  if (player && video.error) {
    unplayable(" (" + video.error.message + ")");
  }
});

document.title = stream || "restreamd";
document.getElementById("stream").textContent = stream;
if (!stream) {
  say("the address names no stream: /watch/app/name");
} else if (!mpegts.isSupported()) {
  say("this browser has no Media Source Extensions");
} else {
  setInterval(look, LOOK_MS);
  start();
}
