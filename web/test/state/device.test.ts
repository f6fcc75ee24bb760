import { expect, test } from "vitest";
import { MAX_PLATFORM, label } from "../../src/pairing/name";
import { describeDevice } from "../../src/state/device";

const AGENTS: readonly (readonly [string, string])[] = [
  [
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1",
    "iPhone, Safari",
  ],
  [
    "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/148.0.0.0 Mobile Safari/537.36",
    "Android phone, Chrome",
  ],
  ["Mozilla/5.0 (Android 15; Mobile; rv:140.0) Gecko/140.0 Firefox/140.0", "Android phone, Firefox"],
  ["Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", "Linux PC, Firefox"],
  ["", "Browser, browser"],
];

test("a device is described by what its browser says", () => {
  for (const [agent, platform] of AGENTS) {
    expect(describeDevice(agent).platform).toBe(platform);
  }
});

test("every description is short enough for a host", () => {
  for (const device of ["Android Mobile", "Android", "Windows", "CrOS"]) {
    for (const browser of ["SamsungBrowser", "Firefox"]) {
      const { platform } = describeDevice(`${device} ${browser}`);
      expect(label(platform, MAX_PLATFORM)).toEqual({ ok: true, text: platform });
    }
  }
});
