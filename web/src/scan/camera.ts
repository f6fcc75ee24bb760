/** The camera that looks away from the person. It is asked for when somebody opens the scanner, and not before. */

/**
 * - denied: the person, or the system, does not let this page have it.
 * - none: this device has no camera.
 * - busy: there is one, and it does not start: another app has it, or it broke.
 * - stopped: it ran, and was taken away.
 * - unsupported: this browser gives pages no camera.
 */
export type CameraFault = "denied" | "none" | "busy" | "stopped" | "unsupported";

/** There is no camera to look through. */
export class CameraError extends Error {
  override readonly name = "CameraError";
  readonly fault: CameraFault;

  constructor(fault: CameraFault, options?: ErrorOptions) {
    super(`no camera: ${fault}`, options);
    this.fault = fault;
  }
}

/** What a camera gives: a browser's `MediaStream`, as far as it is needed. */
export interface CameraStream {
  getTracks(): readonly (EventTarget & Pick<MediaStreamTrack, "stop">)[];
}

/** Where the browser has its cameras: `navigator.mediaDevices` is that, where there is one. */
export interface Cameras<S extends CameraStream> {
  getUserMedia(wanted: MediaStreamConstraints): Promise<S>;
}

/** A code of 49 squares a side, held at arm's length, is sharp enough with this; more costs time at each look. */
const WANTED: MediaStreamConstraints = {
  audio: false,
  video: { facingMode: "environment", width: { ideal: 1280 }, height: { ideal: 720 } },
};

/** Starts the camera. Rejects with {@link CameraError}. Who gets it stops its tracks. */
export async function openCamera<S extends CameraStream>(cameras: Cameras<S> | undefined): Promise<S> {
  if (cameras === undefined) {
    throw new CameraError("unsupported");
  }
  try {
    return await cameras.getUserMedia(WANTED);
  } catch (cause) {
    throw new CameraError(faultOf(cause), { cause });
  }
}

function faultOf(cause: unknown): CameraFault {
  switch (cause instanceof Error ? cause.name : "") {
    case "NotAllowedError":
    case "SecurityError":
      return "denied";
    case "NotFoundError":
    case "OverconstrainedError":
      return "none";
    case "TypeError":
    case "NotSupportedError":
      return "unsupported";
    default:
      return "busy";
  }
}
