/** What a person picks, pastes or drops, as it is attached: a picture, or text. Anything else is refused. */
import type { Bytes } from "../bytes";
import type { Attached } from "../store/schema";
import { MOST_FILE, MOST_TEXT } from "./bounds";
import { type Picture, pictureIn } from "./picture";

/** Why a file is not attached. */
export type FileFault =
  /** The browser does not give its bytes: it was moved, or the permission is gone. */
  | "unread"
  | "empty"
  /** A picture that this browser can't decode. */
  | "undecoded"
  /** A picture that is too large. */
  | "large"
  /** Text that is too long. */
  | "long"
  /** Neither a picture nor text. */
  | "binary";

/** A file's content, as it is attached. */
export interface Content {
  readonly type: Attached["type"];
  readonly data: Bytes;
}

/** Names of pictures, where a computer does not say what a file is. */
const PICTURES = /\.(?:jpe?g|png|gif|webp|heic|heif|avif|bmp|tiff?)$/i;
/** Pictures that are text. */
const DRAWING = "image/svg+xml";

/** What is in this file. */
export async function contentOf(
  file: File,
  picture: (file: Blob) => Promise<Picture | "undecoded" | "large"> = pictureIn,
): Promise<Content | FileFault> {
  if (file.size === 0) {
    return "empty";
  }
  const isPicture = file.type === "" ? PICTURES.test(file.name) : file.type.startsWith("image/");
  if (isPicture && file.type !== DRAWING) {
    return file.size > MOST_FILE ? "large" : picture(file);
  }
  if (file.size > MOST_TEXT) {
    return (await isText(file.slice(0, MOST_TEXT), false)) ? "long" : "binary";
  }
  return textIn(file);
}

/** Files that are pasted: pictures are. Where a program offers text as well, the text is meant. */
export function pasted(data: DataTransfer | null): readonly File[] {
  return data === null || data.types.includes("text/plain") ? [] : [...data.files];
}

async function textIn(file: Blob): Promise<Content | FileFault> {
  let data: Bytes;
  try {
    data = new Uint8Array(await file.arrayBuffer());
  } catch {
    return "unread";
  }
  return (await isText(new Blob([data]), true)) ? { type: "text/plain", data } : "binary";
}

/** Whether it is UTF-8 without the one character that no text has; `whole`: and does not end within one. */
async function isText(file: Blob, whole: boolean): Promise<boolean> {
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(await file.arrayBuffer(), { stream: !whole });
    return !text.includes("\0");
  } catch {
    return false;
  }
}
