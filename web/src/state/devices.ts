/**
 * The devices that may control a host, for one that may change what they may do.
 *
 * What is changed elsewhere, by another device or by the owner at the host, shows as the host tells of it.
 */
import type { ApiClient } from "../api/client";
import { RequestError } from "../api/error";
import type { DeviceChanged, DeviceInfo, Notification } from "../api/types";
import { Observable } from "../observable";
import type { Scope } from "../scope";

/** What a person can do with a device; `close` keeps all of them out, this one too. */
export type DeviceChange =
  | { readonly to: "scope"; readonly scope: Scope }
  | { readonly to: "pause" }
  | { readonly to: "resume" }
  | { readonly to: "revoke" }
  | { readonly to: "close" };

/** Why something was not done. */
export interface DeviceFault {
  readonly change: DeviceChange;
  /** The host's reason; `lost` where no answer came, so that it may have been done, and `unsent` where it was not. */
  readonly reason: string;
  /** Whether the list that was read then has it all the same. */
  readonly held: boolean;
  readonly message: string;
}

/** What the screen shows. */
export interface DevicesView {
  /** The one that was paired first at their head; `null` until they were read. */
  readonly devices: readonly DeviceInfo[] | null;
  /** Whether devices may connect at all. */
  readonly allowed: boolean;
  /** Why they can't be read. */
  readonly fault: string | null;
  /** What is being done, by the device's id. */
  readonly changing: ReadonlyMap<string, DeviceChange>;
  /** What was not done, by the device's id. */
  readonly faults: ReadonlyMap<string, DeviceFault>;
}

/** Stands for the id of all devices together. */
export const EVERYBODY = "";

/** See the module's header. {@link Devices.close} ends it. */
export class Devices {
  readonly view = new Observable<DevicesView>({
    devices: null,
    allowed: true,
    fault: null,
    changing: new Map(),
    faults: new Map(),
  });
  readonly #api: Pick<ApiClient, "request">;
  #asking = new AbortController();
  /** What was heard since the list was asked for, which may be older. */
  #heard: DeviceChanged[] = [];

  constructor(api: Pick<ApiClient, "request">) {
    this.#api = api;
  }

  /** Nobody looks any more. What was begun is done all the same. */
  close(): void {
    this.#asking.abort();
  }

  /** Reads them anew. */
  async read(): Promise<void> {
    this.#asking.abort();
    this.#asking = new AbortController();
    const { signal } = this.#asking;
    this.#heard = [];
    try {
      const { data, allowed } = await this.#api.request("device/list", {}, signal);
      if (!signal.aborted) {
        const devices = this.#heard.reduce<readonly DeviceInfo[]>(changed, data);
        this.#change({ devices, allowed: this.#heard.at(-1)?.allowed ?? allowed, fault: null });
      }
    } catch (error) {
      if (!(error instanceof RequestError)) {
        throw error;
      }
      // What is asked anew anyway is no fault.
      if (!signal.aborted && error.fault.kind !== "gap") {
        this.#change({ fault: error.message });
      }
    }
  }

  /** Changes a device, or all of them ({@link EVERYBODY}); gives whether it was done. */
  async does(deviceId: string, change: DeviceChange): Promise<boolean> {
    const { changing, faults } = this.view.value;
    if (changing.has(deviceId)) {
      return false;
    }
    this.#change({ changing: new Map([...changing, [deviceId, change]]), faults: without(faults, deviceId) });
    const fault = await this.#ask(deviceId, change);
    const now = this.view.value;
    this.#change({
      changing: without(now.changing, deviceId),
      faults: fault === null ? now.faults : new Map([...now.faults, [deviceId, fault]]),
    });
    return fault === null;
  }

  /** What was not done with a device is no news any more. */
  forgets(deviceId: string): void {
    this.#change({ faults: without(this.view.value.faults, deviceId) });
  }

  /** What the host says by itself. */
  notified(notification: Exclude<Notification, { method: "notices/missed" }>): void {
    if (notification.method === "device/changed") {
      this.#hear(notification.params);
    }
  }

  /** Something was not heard. */
  missed(): void {
    void this.read();
  }

  async #ask(deviceId: string, change: DeviceChange): Promise<DeviceFault | null> {
    try {
      await this.#request(deviceId, change);
      return null;
    } catch (error) {
      if (!(error instanceof RequestError)) {
        throw error;
      }
      const { fault, message } = error;
      if (fault.kind === "unsent") {
        return { change, reason: "unsent", held: false, message };
      }
      // A refusal may tell that something is not as it was shown, and no answer may tell anything.
      await this.read();
      const held = this.#isDone(deviceId, change);
      if (fault.kind === "refused") {
        return { change, reason: fault.error.data.reason, held, message };
      }
      return held ? null : { change, reason: "lost", held, message };
    }
  }

  async #request(deviceId: string, change: DeviceChange): Promise<void> {
    switch (change.to) {
      case "scope":
        this.#hear(await this.#api.request("device/scope", { deviceId, scope: change.scope }));
        break;
      case "pause":
      case "resume":
        this.#hear(await this.#api.request("device/pause", { deviceId, paused: change.to === "pause" }));
        break;
      case "revoke":
        this.#hear(await this.#api.request("device/revoke", { deviceId }));
        break;
      case "close":
        await this.#api.request("host/allowDevices", { allowed: false });
    }
  }

  /** Whether the list that was read last has it as it was wanted. */
  #isDone(deviceId: string, change: DeviceChange): boolean {
    const { devices, allowed } = this.view.value;
    const device = devices?.find((device) => device.deviceId === deviceId);
    switch (change.to) {
      case "scope":
        return device?.scope === change.scope;
      case "pause":
      case "resume":
        return device?.paused === (change.to === "pause");
      case "revoke":
        return devices !== null && device === undefined;
      case "close":
        return !allowed;
    }
  }

  #hear(told: DeviceChanged): void {
    this.#heard.push(told);
    const { devices } = this.view.value;
    this.#change({ devices: devices && changed(devices, told), allowed: told.allowed });
  }

  #change(change: Partial<DevicesView>): void {
    this.view.set({ ...this.view.value, ...change });
  }
}

/** The list with this device as it is now: one that is new comes last. */
function changed(devices: readonly DeviceInfo[], { deviceId, device }: DeviceChanged): readonly DeviceInfo[] {
  if (device === null) {
    return devices.filter((other) => other.deviceId !== deviceId);
  }
  const isThere = devices.some((other) => other.deviceId === deviceId);
  return isThere ? devices.map((other) => (other.deviceId === deviceId ? device : other)) : [...devices, device];
}

function without<T>(map: ReadonlyMap<string, T>, key: string): ReadonlyMap<string, T> {
  return new Map([...map].filter(([other]) => other !== key));
}
