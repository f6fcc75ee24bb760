/**
 * The machines that a host's SSH configuration names, and which of them are environments of it, for a device that may
 * add them and take them back.
 */
import type { ApiClient } from "../api/client";
import { RequestError } from "../api/error";
import type { Notification, SshHostInfo } from "../api/types";
import { Observable } from "../observable";
import { aliasOf } from "./codexes";

/** What a person can do with one. */
export type MachineChange = "add" | "remove";

/** Why something was not done. */
export interface MachineFault {
  /** Whether it may have been done all the same: no answer came. */
  readonly lost: boolean;
  readonly message: string;
}

/** What the screen shows. */
export interface MachinesView {
  /** In the order of the configuration; `null` until they were read. */
  readonly machines: readonly SshHostInfo[] | null;
  /** Why they can't be read. */
  readonly fault: string | null;
  /** Included files that the host could not read, each with why: machines may be missing. */
  readonly unread: readonly string[];
  /** What is being done, by the machine's name. */
  readonly changing: ReadonlyMap<string, MachineChange>;
  /** What was not done, by the machine's name. */
  readonly faults: ReadonlyMap<string, MachineFault>;
}

/** A machine as a list shows it. */
export interface Machine extends SshHostInfo {
  /** Whether the configuration names it still. */
  readonly named: boolean;
}

/** The machines that are named, and after them those that were added and are not, or not as far as this is known. */
export function machinesOf(named: readonly SshHostInfo[] | null, environments: Iterable<string>): readonly Machine[] {
  const known = new Set(named?.map(({ alias }) => alias));
  const others = [...environments].map(aliasOf).filter((alias) => alias !== null && !known.has(alias));
  return [
    ...(named ?? []).map((machine) => ({ ...machine, named: true })),
    ...others.flatMap((alias) => (alias === null ? [] : [{ alias, added: true, named: false }])),
  ];
}

/** See the module's header. {@link Machines.close} ends it. */
export class Machines {
  readonly view = new Observable<MachinesView>({
    machines: null,
    fault: null,
    unread: [],
    changing: new Map(),
    faults: new Map(),
  });
  readonly #api: Pick<ApiClient, "request">;
  #asking = new AbortController();
  /** What was heard since the list was asked for, which may be older: whether a machine is added. */
  #heard = new Map<string, boolean>();

  constructor(api: Pick<ApiClient, "request">) {
    this.#api = api;
  }

  /** Nobody looks any more. What was begun is done all the same. */
  close(): void {
    this.#asking.abort();
  }

  /** Reads them anew, for a person who looks: what was not done before is no news then. */
  async look(): Promise<void> {
    this.#change({ faults: new Map() });
    await this.#read();
  }

  /** Makes a machine an environment of the host; gives whether it is one. */
  add(alias: string): Promise<boolean> {
    return this.#do(alias, "add");
  }

  /** Takes one back; gives whether it is none any more. */
  remove(alias: string): Promise<boolean> {
    return this.#do(alias, "remove");
  }

  /** What the host says by itself. */
  notified(notification: Exclude<Notification, { method: "notices/missed" }>): void {
    if (notification.method === "environment/removed") {
      this.#hear(aliasOf(notification.params.name), false);
    } else if (notification.method === "environment/changed" && notification.params.state !== "stopped") {
      // One that was taken back ends as well, and that may be told after it.
      this.#hear(aliasOf(notification.params.name), true);
    }
  }

  /** Something was not heard. */
  missed(): void {
    void this.#read();
  }

  async #read(): Promise<void> {
    this.#asking.abort();
    this.#asking = new AbortController();
    const { signal } = this.#asking;
    this.#heard = new Map();
    try {
      const { data, unread = [] } = await this.#api.request("ssh/list", {}, signal);
      if (!signal.aborted) {
        const machines = data.map((machine) => ({
          ...machine,
          added: this.#heard.get(machine.alias) ?? machine.added,
        }));
        this.#change({ machines, fault: null, unread });
      }
    } catch (error) {
      if (!(error instanceof RequestError)) {
        throw error;
      }
      // What is asked anew anyway is no fault.
      if (!signal.aborted && error.fault.kind !== "gap") {
        this.#change({ machines: null, fault: error.message, unread: [] });
      }
    }
  }

  async #do(alias: string, what: MachineChange): Promise<boolean> {
    const { changing, faults } = this.view.value;
    if (changing.has(alias)) {
      return false;
    }
    this.#change({ changing: new Map([...changing, [alias, what]]), faults: without(faults, alias) });
    const fault = await this.#ask(alias, what);
    const now = this.view.value;
    this.#change({
      changing: without(now.changing, alias),
      faults: fault === null ? now.faults : new Map([...now.faults, [alias, fault]]),
    });
    return fault === null;
  }

  async #ask(alias: string, what: MachineChange): Promise<MachineFault | null> {
    try {
      await this.#api.request(`ssh/${what}`, { alias });
      this.#hear(alias, what === "add");
      return null;
    } catch (error) {
      if (!(error instanceof RequestError)) {
        throw error;
      }
      const { fault, message } = error;
      const lost = fault.kind !== "refused" && fault.kind !== "unsent";
      if (lost) {
        await this.#read();
        const machine = this.view.value.machines?.find((machine) => machine.alias === alias);
        if (machine?.added === (what === "add")) {
          return null;
        }
      }
      return { lost, message };
    }
  }

  #hear(alias: string | null, added: boolean): void {
    if (alias !== null) {
      this.#heard.set(alias, added);
      const machines = this.view.value.machines?.map((one) => (one.alias === alias ? { ...one, added } : one)) ?? null;
      this.#change({ machines });
    }
  }

  #change(change: Partial<MachinesView>): void {
    this.view.set({ ...this.view.value, ...change });
  }
}

function without<T>(map: ReadonlyMap<string, T>, key: string): ReadonlyMap<string, T> {
  return new Map([...map].filter(([other]) => other !== key));
}
