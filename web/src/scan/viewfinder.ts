/** Shows what the camera sees, and gives pictures of it to look at. No picture is kept, and none leaves the page. */

/** The longest side of a picture that is looked through, in pixels: more costs time, and a code needs less. */
const LONGEST = 960;

/** What the scanner looks through. */
export interface Finder<S> {
  /** Shows the stream; resolves once it moves. */
  show(stream: S): Promise<void>;
  /** What is to be seen now; `null` before there is anything. */
  picture(): ImageData | null;
  /** Shows nothing any more, and forgets what it showed. */
  clear(): void;
}

/** A finder in this element of a page. */
export class Viewfinder implements Finder<MediaStream> {
  readonly #video: HTMLVideoElement;
  readonly #canvas: HTMLCanvasElement;

  constructor(video: HTMLVideoElement) {
    this.#video = video;
    this.#canvas = video.ownerDocument.createElement("canvas");
    this.clear();
  }

  async show(stream: MediaStream): Promise<void> {
    this.#video.srcObject = stream;
    await this.#video.play();
  }

  picture(): ImageData | null {
    const { videoWidth, videoHeight, readyState } = this.#video;
    const longest = Math.max(videoWidth, videoHeight);
    if (longest === 0 || readyState < HTMLMediaElement.HAVE_CURRENT_DATA) {
      return null;
    }
    const scale = Math.min(1, LONGEST / longest);
    const [width, height] = [Math.max(1, Math.round(videoWidth * scale)), Math.max(1, Math.round(videoHeight * scale))];
    // Setting a size clears the canvas: once is enough.
    if (this.#canvas.width !== width || this.#canvas.height !== height) {
      [this.#canvas.width, this.#canvas.height] = [width, height];
    }
    const context = this.#canvas.getContext("2d", { alpha: false, willReadFrequently: true });
    context?.drawImage(this.#video, 0, 0, width, height);
    return context?.getImageData(0, 0, width, height) ?? null;
  }

  clear(): void {
    this.#video.srcObject = null;
    [this.#canvas.width, this.#canvas.height] = [0, 0];
  }
}
