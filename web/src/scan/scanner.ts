/**
 * Reads a pairing code through the camera.
 *
 * ```text
 *   starting     the decoder is loaded, the camera asked for
 *   looking      a picture ten times a second, until one holds a pairing code for this page
 *   off          the page is hidden: the camera is free, and starts again when the page is back
 *   fault        there is no camera to look through; a person may have it tried again
 * ```
 *
 * The camera runs in `looking` only: it is free before anything is done with a code, and at once when the screen is
 * left or the page hidden.
 */
import type { Page } from "../link/page";
import { Observable } from "../observable";
import type { PairingUrl } from "../pairing/url";
import { CameraError, type CameraFault, type CameraStream, type Cameras, openCamera } from "./camera";
import type { Unfit } from "./judge";
import type { Finder } from "./viewfinder";

/** From one look to the next, in milliseconds: a hand moves little in between, and a phone stays cool. */
const PACE = 100;
/** How long a code that does not do is spoken of after it was last seen, in milliseconds. */
export const SPOKEN_OF = 3_000;

/** What is the matter: with the camera, or the decoder, which could not be loaded. */
export type ScanFault = CameraFault | "decoder";

export type ScanState =
  | { readonly at: "starting" }
  /** `unfit`: what is wrong with the code that it has just seen. */
  | { readonly at: "looking"; readonly unfit: Unfit | null }
  | { readonly at: "off" }
  | { readonly at: "fault"; readonly fault: ScanFault };

/** What a scanner stands on. */
export interface ScanSetup<S extends CameraStream> {
  readonly cameras: Cameras<S> | undefined;
  readonly page: Pick<Page, "visible" | "listen">;
  readonly finder: Finder<S>;
  /** Loads what reads a picture. */
  readonly load: () => Promise<(picture: ImageData) => string | null>;
  readonly judge: (text: string) => PairingUrl | Unfit;
  /** Takes the code, once; the camera is free by then. */
  readonly found: (url: PairingUrl) => void;
}

/** See the module's header. */
export class Scanner<S extends CameraStream = MediaStream> {
  readonly state = new Observable<ScanState>({ at: "starting" });
  readonly #setup: ScanSetup<S>;
  #running: AbortController | null = null;
  #unlisten: (() => void) | null = null;

  constructor(setup: ScanSetup<S>) {
    this.#setup = setup;
  }

  /** Begins to look. */
  start(): void {
    const { page } = this.#setup;
    this.#unlisten = page.listen((event) => {
      if (event === "hidden") {
        this.#hide();
      } else if ((event === "visible" || event === "shown") && this.state.value.at === "off") {
        this.#run();
      }
    });
    if (page.visible) {
      this.#run();
    } else {
      this.state.set({ at: "off" });
    }
  }

  /** Tries again after a fault. */
  retry(): void {
    if (this.state.value.at === "fault") {
      this.#run();
    }
  }

  /** Ends it; the camera is free at once. */
  stop(): void {
    this.#unlisten?.();
    this.#unlisten = null;
    this.#free();
  }

  /** A fault stays: who comes back sees what it was about. */
  #hide(): void {
    if (this.state.value.at !== "fault") {
      this.#free();
      this.state.set({ at: "off" });
    }
  }

  #free(): void {
    this.#running?.abort();
    this.#running = null;
  }

  #run(): void {
    this.#free();
    const running = new AbortController();
    this.#running = running;
    this.state.set({ at: "starting" });
    void this.#scan(running.signal);
  }

  async #scan(signal: AbortSignal): Promise<void> {
    try {
      const decode = await this.#decoder();
      const url = signal.aborted ? null : await this.#look(decode, signal);
      if (url !== null) {
        this.stop();
        this.#setup.found(url);
      }
    } catch (error) {
      if (!(error instanceof CameraError || error instanceof DecoderError)) {
        throw error;
      }
      // A browser's question may hide the page: who said no there is not asked again when it is back.
      if (!signal.aborted || (error.fault === "denied" && this.state.value.at === "off")) {
        this.#fails(error.fault);
      }
    }
  }

  #fails(fault: ScanFault): void {
    this.#free();
    this.state.set({ at: "fault", fault });
  }

  async #decoder(): Promise<(picture: ImageData) => string | null> {
    try {
      return await this.#setup.load();
    } catch (cause) {
      throw new DecoderError("the decoder could not be loaded", { cause });
    }
  }

  /** The first pairing code for this page that is seen; `null` if it is given up before. */
  async #look(decode: (picture: ImageData) => string | null, signal: AbortSignal): Promise<PairingUrl | null> {
    const stream = await openCamera(this.#setup.cameras);
    if (signal.aborted) {
      // A person may have left while the browser asked; by now the finder may show another stream.
      halt(stream);
      return null;
    }
    signal.addEventListener("abort", () => {
      halt(stream);
      this.#setup.finder.clear();
    });
    for (const track of stream.getTracks()) {
      // The page's own stopping is not told.
      track.addEventListener("ended", () => {
        if (!signal.aborted) {
          this.#fails("stopped");
        }
      });
    }
    await this.#show(stream, signal);
    return this.#watch(decode, signal);
  }

  async #show(stream: S, signal: AbortSignal): Promise<void> {
    try {
      await this.#setup.finder.show(stream);
    } catch (cause) {
      throw new CameraError("busy", { cause });
    }
    if (!signal.aborted) {
      this.state.set({ at: "looking", unfit: null });
    }
  }

  async #watch(decode: (picture: ImageData) => string | null, signal: AbortSignal): Promise<PairingUrl | null> {
    const { finder, judge } = this.#setup;
    let spokenOf = -Infinity;
    while (!signal.aborted) {
      const picture = finder.picture();
      const text = picture === null ? null : decode(picture);
      const judged = text === null ? null : judge(text);
      if (judged !== null && typeof judged !== "string") {
        return judged;
      }
      const now = performance.now();
      if (judged !== null) {
        spokenOf = now;
        this.#says(judged);
      } else if (now - spokenOf > SPOKEN_OF) {
        this.#says(null);
      }
      await new Promise((resolve) => setTimeout(resolve, PACE));
    }
    return null;
  }

  /** Says what is wrong with a code; the same is said once. */
  #says(unfit: Unfit | null): void {
    const { value } = this.state;
    if (value.at === "looking" && value.unfit !== unfit) {
      this.state.set({ at: "looking", unfit });
    }
  }
}

function halt(stream: CameraStream): void {
  for (const track of stream.getTracks()) {
    track.stop();
  }
}

class DecoderError extends Error {
  override readonly name = "DecoderError";
  readonly fault = "decoder";
}
