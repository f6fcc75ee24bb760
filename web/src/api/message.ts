/**
 * What the host agent says on channel 0, taken apart: docs/api.md.
 *
 * The host is known by its keys, and the types are made from the code that answers, so what is checked here is what a
 * newer or older host may do otherwise: members and notifications that are not known are left alone.
 */
import type { Bytes } from "../bytes";
import type { ApiError, Notification } from "./types";

/** What came; `null` where it is nothing that this client knows. */
export type Heard =
  | { readonly type: "result"; readonly id: number; readonly result: object }
  | { readonly type: "error"; readonly id: number; readonly error: ApiError }
  /** An answer without what an answer has. */
  | { readonly type: "malformed"; readonly id: number }
  | { readonly type: "notification"; readonly notification: Notification }
  | null;

/** Takes a message apart. */
export function hear(bytes: Bytes): Heard {
  const message = parse(bytes);
  if (!isObject(message)) {
    return null;
  }
  if (isNotification(message)) {
    return { type: "notification", notification: message };
  }
  if (!("id" in message) || typeof message.id !== "number") {
    return null;
  }
  const { id } = message;
  if ("result" in message && isObject(message.result)) {
    return { type: "result", id, result: message.result };
  }
  return "error" in message && isApiError(message.error)
    ? { type: "error", id, error: message.error }
    : { type: "malformed", id };
}

const decoder = new TextDecoder("utf-8", { fatal: true });

function parse(bytes: Bytes): unknown {
  try {
    return JSON.parse(decoder.decode(bytes));
  } catch {
    return null;
  }
}

const NOTIFICATIONS: Readonly<Record<Notification["method"], true>> = {
  "host/changed": true,
  "host/asleep": true,
  "environment/changed": true,
  "environment/removed": true,
  "workspace/changed": true,
  "device/changed": true,
  "keepAwake/changed": true,
  "prompt/changed": true,
  "request/opened": true,
  "request/shown": true,
  "request/closed": true,
  "attention/changed": true,
  "ssh/asked": true,
  "notices/missed": true,
};

function isNotification(message: object): message is Notification {
  return (
    !("id" in message) &&
    "method" in message &&
    typeof message.method === "string" &&
    Object.hasOwn(NOTIFICATIONS, message.method) &&
    "params" in message &&
    isObject(message.params)
  );
}

function isApiError(value: unknown): value is ApiError {
  return (
    isObject(value) &&
    "message" in value &&
    typeof value.message === "string" &&
    "code" in value &&
    typeof value.code === "number" &&
    "data" in value &&
    isObject(value.data) &&
    "reason" in value.data &&
    typeof value.data.reason === "string"
  );
}

function isObject(value: unknown): value is object {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
