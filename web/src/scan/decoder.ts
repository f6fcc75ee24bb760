/** Reads QR codes. Only the scanner loads this, when it is opened: nothing else needs the decoder. */
import { decodeQR } from "qr/decode.js";

/** The text of a QR code in the picture; `null` where it finds none, or none that is whole. */
export function decode(picture: ImageData): string | null {
  try {
    return decodeQR(picture);
  } catch {
    // Most pictures hold none. Whatever else it says of one, the next picture comes soon.
    return null;
  }
}
