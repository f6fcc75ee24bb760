/**
 * Pictures: decoded by the browser, drawn upright and no larger than a model looks at, and written anew. What else was
 * in the file, such as where a photo was taken, is not in what is drawn.
 */
import type { Bytes } from "../bytes";
import type { Attached } from "../store/schema";
import { MOST_PICTURE, MOST_PNG, fitted } from "./bounds";

/** A picture as it is attached. */
export interface Picture {
  readonly type: Exclude<Attached["type"], "text/plain">;
  readonly data: Bytes;
}

/** A picture that is drawn, and can be written. */
export interface Drawn {
  /** `null` where the browser can't. */
  write(type: Picture["type"], quality?: number): Promise<Bytes | null>;
}

/** What of a browser it takes. */
export interface Easel {
  /** `null` where the browser can't read it. */
  decode(file: Blob): Promise<ImageBitmap | null>;
  draw(picture: ImageBitmap, size: { readonly width: number; readonly height: number }): Drawn;
}

/** How well a JPEG is written: the first that is small enough. */
const QUALITIES = [0.85, 0.7, 0.5] as const;
/** Types of what may have few colours, sharp edges, and nothing in places. */
const LOSSLESS = ["image/png", "image/gif", "image/webp", "image/bmp"];

/** The picture in this file; `undecoded` where the browser can't read it, `large` where it does not get small enough. */
export async function pictureIn(file: Blob, easel: Easel = BROWSER): Promise<Picture | "undecoded" | "large"> {
  const bitmap = await easel.decode(file);
  if (bitmap === null) {
    return "undecoded";
  }
  try {
    const drawn = easel.draw(bitmap, fitted(bitmap));
    if (LOSSLESS.includes(file.type)) {
      const data = await drawn.write("image/png");
      if (data !== null && data.length <= MOST_PNG) {
        return { type: "image/png", data };
      }
    }
    for (const quality of QUALITIES) {
      const data = await drawn.write("image/jpeg", quality);
      if (data === null) {
        return "undecoded";
      }
      if (data.length <= MOST_PICTURE) {
        return { type: "image/jpeg", data };
      }
    }
    return "large";
  } finally {
    bitmap.close();
  }
}

/** Shows the picture with these bytes, no edge longer than `edge` pixels; gives whether the browser could. */
export async function show(canvas: HTMLCanvasElement, { data, type }: Picture, edge: number): Promise<boolean> {
  const bitmap = await decode(new Blob([data], { type }));
  if (bitmap === null) {
    return false;
  }
  paint(canvas, bitmap, fitted(bitmap, edge));
  bitmap.close();
  return true;
}

const BROWSER: Easel = {
  decode,
  draw: (picture, size) => {
    const canvas = document.createElement("canvas");
    paint(canvas, picture, size);
    return {
      async write(type, quality) {
        // A JPEG has no transparency: what shows nothing is white there, as on paper.
        const source = type === "image/jpeg" ? onWhite(canvas) : canvas;
        const blob = await new Promise<Blob | null>((resolve) => {
          source.toBlob(resolve, type, quality);
        });
        // Browsers write PNG in the place of what they can't write.
        return blob?.type === type ? new Uint8Array(await blob.arrayBuffer()) : null;
      },
    };
  },
};

async function decode(file: Blob): Promise<ImageBitmap | null> {
  try {
    return await createImageBitmap(file, { imageOrientation: "from-image" });
  } catch {
    // Whatever it is: it is no picture here.
    return null;
  }
}

function paint(
  canvas: HTMLCanvasElement,
  picture: CanvasImageSource,
  { width, height }: { readonly width: number; readonly height: number },
  ground?: string,
): void {
  [canvas.width, canvas.height] = [width, height];
  const context = canvas.getContext("2d");
  if (context === null) {
    return;
  }
  if (ground !== undefined) {
    context.fillStyle = ground;
    context.fillRect(0, 0, width, height);
  }
  context.imageSmoothingQuality = "high";
  context.drawImage(picture, 0, 0, width, height);
}

function onWhite(canvas: HTMLCanvasElement): HTMLCanvasElement {
  const other = document.createElement("canvas");
  paint(other, canvas, canvas, "white");
  return other;
}
