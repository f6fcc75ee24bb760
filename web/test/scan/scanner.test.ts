/** A scanner before cameras that do what the test says: when it looks, when it lets go, and what it says. */
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import vectors from "../../../proto/vectors/pairing.json";
import { PairingUrl } from "../../src/pairing/url";
import type { CameraFault, CameraStream } from "../../src/scan/camera";
import type { Unfit } from "../../src/scan/judge";
import { SPOKEN_OF, type ScanSetup, Scanner } from "../../src/scan/scanner";
import { TestPage } from "../link/page";

const CODE = PairingUrl.parse(vectors.urls[0]?.url ?? "");
const NOTHING: ImageData = { data: new Uint8ClampedArray(4), width: 1, height: 1, colorSpace: "srgb" };

class FakeTrack extends EventTarget {
  readyState: "live" | "ended" = "live";

  stop(): void {
    this.readyState = "ended";
  }

  /** The system takes it away. */
  lose(): void {
    this.readyState = "ended";
    this.dispatchEvent(new Event("ended"));
  }
}

/** Everything that a scanner stands on. */
class Room {
  readonly page = new TestPage();
  readonly tracks: FakeTrack[] = [];
  readonly asked: MediaStreamConstraints[] = [];
  /** What the finder was told, in order. */
  readonly shown: string[] = [];
  readonly found: PairingUrl[] = [];
  /** What the next look reads. */
  text: string | null = null;
  judged: PairingUrl | Unfit = "noCode";
  /** Settles the browser's question. */
  answer: (error?: Error) => void = () => undefined;
  /** Whether it answers by itself. */
  asks = false;
  /** The fault of the next start. */
  fault: string | null = null;
  loads = 0;
  broken = false;
  readonly scanner: Scanner<CameraStream>;

  constructor(change: Partial<ScanSetup<CameraStream>> = {}) {
    this.scanner = new Scanner({
      cameras: { getUserMedia: (wanted) => this.#open(wanted) },
      page: this.page,
      finder: {
        show: () => {
          this.shown.push("stream");
          return Promise.resolve();
        },
        picture: () => NOTHING,
        clear: () => this.shown.push("nothing"),
      },
      load: () => {
        this.loads += 1;
        return this.broken ? Promise.reject(new TypeError("no network")) : Promise.resolve(() => this.text);
      },
      judge: () => this.judged,
      found: (url) => this.found.push(url),
      ...change,
    });
  }

  async #open(wanted: MediaStreamConstraints): Promise<CameraStream> {
    this.asked.push(wanted);
    if (this.asks) {
      await new Promise<void>((resolve, reject) => {
        this.answer = (error) => {
          if (error === undefined) {
            resolve();
          } else {
            reject(error);
          }
        };
      });
    }
    if (this.fault !== null) {
      throw new DOMException("no", this.fault);
    }
    const track = new FakeTrack();
    this.tracks.push(track);
    return { getTracks: () => [track] };
  }

  get state(): unknown {
    return this.scanner.state.value;
  }

  get live(): number {
    return this.tracks.filter(({ readyState }) => readyState === "live").length;
  }
}

beforeEach(() => {
  vi.useFakeTimers();
});

afterEach(() => {
  vi.useRealTimers();
});

/** Lets everything come to rest, and this much time pass. */
async function pass(ms = 0): Promise<void> {
  await vi.advanceTimersByTimeAsync(ms);
}

async function looking(): Promise<Room> {
  const room = new Room();
  room.scanner.start();
  await pass();
  expect(room.state).toEqual({ at: "looking", unfit: null });
  return room;
}

test("the camera behind is asked for, without sound, and not before somebody scans", async () => {
  const room = new Room();
  await pass();
  expect([room.asked, room.loads]).toEqual([[], 0]);
  room.scanner.start();
  expect(room.state).toEqual({ at: "starting" });
  await pass();
  expect(room.asked.length).toBe(1);
  expect(room.asked[0]).toMatchObject({ audio: false, video: { facingMode: "environment" } });
  expect(room.shown).toEqual(["stream"]);
});

test("a code is taken once, and the camera is free before that", async () => {
  const live: number[] = [];
  const room: Room = new Room({ found: () => live.push(room.live) });
  room.scanner.start();
  await pass(1_000);
  [room.text, room.judged] = ["code", CODE];
  await pass(1_000);
  expect(live).toEqual([0]);
  expect(room.shown).toEqual(["stream", "nothing"]);
  room.page.hide();
  room.page.show();
  await pass(1_000);
  expect([live, room.asked.length]).toEqual([[0], 1]);
});

test("a code that does not do is said, once, until it is gone for a while; the camera goes on", async () => {
  const room = await looking();
  const said: unknown[] = [];
  room.scanner.state.subscribe((state) => said.push(state));
  room.text = "hello";
  await pass(10_000);
  room.judged = "elsewhere";
  await pass(10_000);
  room.text = null;
  await pass(SPOKEN_OF - 500);
  expect(room.state).toEqual({ at: "looking", unfit: "elsewhere" });
  await pass(1_000);
  expect(said).toEqual([null, "noCode", "elsewhere", null].map((unfit) => ({ at: "looking", unfit })));
  expect([room.live, room.found]).toEqual([1, []]);
  [room.text, room.judged] = ["code", CODE];
  await pass(1_000);
  expect([room.live, room.found]).toEqual([0, [CODE]]);
});

test("who leaves has the camera back at once", async () => {
  const room = await looking();
  room.scanner.stop();
  expect([room.live, room.shown]).toEqual([0, ["stream", "nothing"]]);
  [room.text, room.judged] = ["code", CODE];
  room.page.hide();
  room.page.show();
  await pass(10_000);
  expect([room.asked.length, room.found]).toEqual([1, []]);
});

test("who leaves while the browser asks has the camera back as soon as it is given", async () => {
  const room = new Room();
  room.asks = true;
  room.scanner.start();
  await pass();
  room.scanner.stop();
  room.answer();
  await pass();
  expect([room.tracks.length, room.live, room.shown]).toEqual([1, 0, []]);
});

test("who leaves while the decoder is loaded is not asked for the camera", async () => {
  let loaded: (decode: () => null) => void = () => undefined;
  const room = new Room({ load: () => new Promise((resolve) => (loaded = resolve)) });
  room.scanner.start();
  room.scanner.stop();
  loaded(() => null);
  await pass();
  expect(room.asked).toEqual([]);
});

test("a page that is hidden lets the camera go, and has it again once it is shown", async () => {
  const room = await looking();
  room.page.hide();
  expect([room.live, room.state]).toEqual([0, { at: "off" }]);
  await pass(60_000);
  room.page.show();
  await pass();
  expect([room.live, room.state]).toEqual([1, { at: "looking", unfit: null }]);
  // It says so twice where it comes out of the cache of pages left.
  room.page.tell("shown");
  await pass();
  expect(room.asked.length).toBe(2);
});

test("one that begins hidden waits until it is seen", async () => {
  const room = new Room();
  room.page.visible = false;
  room.scanner.start();
  await pass();
  expect([room.asked, room.state]).toEqual([[], { at: "off" }]);
  room.page.show();
  await pass();
  expect(room.live).toBe(1);
});

test.each([
  ["NotAllowedError", "denied"],
  ["SecurityError", "denied"],
  ["NotFoundError", "none"],
  ["OverconstrainedError", "none"],
  ["NotReadableError", "busy"],
  ["AbortError", "busy"],
  ["TypeError", "unsupported"],
  ["Newer", "busy"],
] satisfies readonly (readonly [string, CameraFault])[])(
  "%s is said as %s, and can be tried again",
  async (name, fault) => {
    const room = new Room();
    room.fault = name;
    room.scanner.start();
    await pass();
    expect(room.state).toEqual({ at: "fault", fault });
    // Nobody is asked again because they looked elsewhere.
    room.page.hide();
    room.page.show();
    await pass();
    expect([room.asked.length, room.state]).toEqual([1, { at: "fault", fault }]);
    room.fault = null;
    room.scanner.retry();
    await pass();
    expect(room.state).toEqual({ at: "looking", unfit: null });
    room.scanner.retry();
    expect(room.asked.length).toBe(2);
  },
);

test("who says no while the browser's question hides the page is not asked once more", async () => {
  const room = new Room();
  room.asks = true;
  room.scanner.start();
  await pass();
  room.page.hide();
  room.answer(new DOMException("no", "NotAllowedError"));
  await pass();
  room.page.show();
  await pass();
  expect([room.asked.length, room.state]).toEqual([1, { at: "fault", fault: "denied" }]);
});

test("a browser without cameras for pages says so", async () => {
  const room = new Room({ cameras: undefined });
  room.scanner.start();
  await pass();
  expect(room.state).toEqual({ at: "fault", fault: "unsupported" });
});

test("a camera that is taken away is said, and its place is free", async () => {
  const room = await looking();
  room.tracks[0]?.lose();
  expect(room.state).toEqual({ at: "fault", fault: "stopped" });
  expect(room.shown).toEqual(["stream", "nothing"]);
});

test("a camera that gives no picture is let go", async () => {
  const room: Room = new Room({
    finder: { show: () => Promise.reject(new Error("no")), picture: () => null, clear: () => undefined },
  });
  room.scanner.start();
  await pass();
  expect([room.live, room.state]).toEqual([0, { at: "fault", fault: "busy" }]);
});

test("a decoder that can't be loaded is said, and nobody is asked for the camera meanwhile", async () => {
  const room = new Room();
  room.broken = true;
  room.scanner.start();
  await pass();
  expect([room.asked, room.state]).toEqual([[], { at: "fault", fault: "decoder" }]);
  room.broken = false;
  room.scanner.retry();
  await pass();
  expect(room.state).toEqual({ at: "looking", unfit: null });
});
