/** What the phone's camera sees: a file of pictures that Chromium plays in its place, over and over. */
import { mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import encodeQR from "qr";

const [WIDTH, HEIGHT] = [640, 480];
/** Brightness of paper and ink. */
const [LIGHT, DARK] = [235, 16];

export class Camera {
  readonly #folder = mkdtempSync(join(tmpdir(), "reachback-camera-"));

  constructor() {
    this.sees(null);
  }

  /** What Chromium is to be started with. */
  get args(): readonly string[] {
    return ["--use-fake-device-for-media-stream", `--use-file-for-fake-video-capture=${this.#file}`];
  }

  /** Holds a QR code of this text before it, or nothing. A camera that runs sees what it saw when it started. */
  sees(text: string | null): void {
    const brightness = Buffer.alloc(WIDTH * HEIGHT, LIGHT);
    if (text !== null) {
      draw(encodeQR(text, "raw", { border: 2 }), brightness);
    }
    const colour = Buffer.alloc(WIDTH * HEIGHT * 0.5, 128);
    const frame = Buffer.concat([Buffer.from("FRAME\n"), brightness, colour]);
    const head = Buffer.from(`YUV4MPEG2 W${String(WIDTH)} H${String(HEIGHT)} F10:1 Ip A1:1 C420jpeg\n`);
    // A camera that runs reads its file on and on.
    const next = `${this.#file}.next`;
    writeFileSync(next, Buffer.concat([head, frame, frame]));
    renameSync(next, this.#file);
  }

  putAway(): void {
    rmSync(this.#folder, { recursive: true, force: true });
  }

  get #file(): string {
    return join(this.#folder, "seen.y4m");
  }
}

/** The squares in the middle, as large as they can be. */
function draw(squares: readonly (readonly boolean[])[], brightness: Buffer): void {
  const size = Math.floor(HEIGHT / squares.length);
  const [left, top] = [WIDTH, HEIGHT].map((length) => Math.floor((length - size * squares.length) / 2));
  for (let y = 0; y < size * squares.length; y++) {
    for (let x = 0; x < size * squares.length; x++) {
      if (squares[Math.floor(y / size)]?.[Math.floor(x / size)] === true) {
        brightness[((top ?? 0) + y) * WIDTH + (left ?? 0) + x] = DARK;
      }
    }
  }
}
