/** How Codex is in each environment of a host, by the host's own word. */
import type { ApiClient } from "../api/client";
import { RequestError } from "../api/error";
import type { EnvironmentInfo, Notification } from "../api/types";
import { Observable } from "../observable";
import { type Scope, lesserScope } from "../scope";
import { LOCAL } from "./route";

/** How the environment of a machine that a host reaches over SSH begins; its name in the host's SSH configuration follows. */
const SSH = "ssh:";

/** The name in the host's SSH configuration; `null` where the environment is no machine. */
export function aliasOf(environment: string): string | null {
  return environment.startsWith(SSH) ? environment.slice(SSH.length) : null;
}

/** The environment that a machine of the host's SSH configuration is, once it was added. */
export function environmentOf(alias: string): string {
  return `${SSH}${alias}`;
}

/** What a device of this scope may do in an environment: of a machine that is not known yet, no more than look. */
export function scopeIn(environment: string, scope: Scope, known: ReadonlyMap<string, EnvironmentInfo>): Scope {
  const info = known.get(environment);
  const unknown = environment === LOCAL ? scope : "view";
  return info === undefined ? unknown : lesserScope(scope, info.maxScope ?? scope);
}

/** See the module's header. */
export class Codexes {
  /** By their names, in the host's order; empty until they were read. */
  readonly view = new Observable<ReadonlyMap<string, EnvironmentInfo>>(new Map());
  readonly #api: ApiClient;
  #asking = new AbortController();

  constructor(api: ApiClient) {
    this.#api = api;
  }

  /** Reads them, where somebody looks. */
  async read(): Promise<void> {
    this.#asking.abort();
    this.#asking = new AbortController();
    const { signal } = this.#asking;
    try {
      const { data } = await this.#api.request("environment/list", {}, signal);
      this.view.set(new Map(data.map((info) => [info.name, info])));
    } catch (error) {
      // They are read again when the host is there again; until then what it said last stands.
      if (!(error instanceof RequestError)) {
        throw error;
      }
    }
  }

  /** What the host says by itself. */
  notified(notification: Exclude<Notification, { method: "notices/missed" }>): void {
    if (notification.method === "environment/changed") {
      const info = notification.params;
      // One that was taken back ends as well, and that may be told after it.
      if (info.state !== "stopped" || this.view.value.has(info.name)) {
        this.view.set(new Map([...this.view.value, [info.name, info]]));
      }
    } else if (notification.method === "environment/removed") {
      const { name } = notification.params;
      this.view.set(new Map([...this.view.value].filter(([known]) => known !== name)));
    }
  }

  /** Something was not heard. */
  missed(): void {
    void this.read();
  }
}
