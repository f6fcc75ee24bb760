/** What the scanner says. */
import type { Unfit } from "../scan/judge";
import type { ScanFault } from "../scan/scanner";
import type { Failure } from "./words";

/** Why the code in front of the camera does not do. */
export const UNFIT_WORDS: Readonly<Record<Unfit, string>> = {
  noCode: "That is no pairing code. Point at the one that `reachback pair` shows.",
  newer: "This code is of a newer version. Reload this app to pair with it.",
  elsewhere: "This code is from another relay. Open that relay's own address to pair with it.",
};

const TYPE = "Or type the code: it takes about 20 seconds.";

/** Why there is nothing to look through, and the way out. `device` is what this is, as `describeDevice` says it. */
export function scanFaultWords(fault: ScanFault, device: string): Failure {
  switch (fault) {
    case "denied":
      return { title: "Camera is off for Reachback", text: `${allowWords(device)} ${TYPE}` };
    case "none":
      return { title: "This device has no camera", text: "Type the code: it takes about 20 seconds." };
    case "busy":
      return {
        title: "The camera does not start",
        text: `Another app may have it: close that, and try again. ${TYPE}`,
      };
    case "stopped":
      return { title: "The camera stopped", text: `Something took it away. Try again. ${TYPE}` };
    case "unsupported":
      return {
        title: "This browser gives the app no camera",
        text: "Type the code, or open the code's link with this device's own camera app.",
      };
    case "decoder":
      return {
        title: "The scanner could not be loaded",
        text: `Try again when there is a network, or reload this app. ${TYPE}`,
      };
  }
}

/** Where the camera is let in again. */
function allowWords(device: string): string {
  if (/^(iPhone|iPad), Safari$/.test(device)) {
    return "Settings → Apps → Safari → Camera → Allow.";
  }
  return "Allow it for this site in the browser's settings, and in the system's for the browser.";
}
