/** What a new thread can be given: the folders that are open to devices, and Codex's models. */
import { RequestError } from "../api/error";
import type { EnvironmentInfo, Notification } from "../api/types";
import { Codex, CodexError } from "../host/codex";
import type { RemoteHost } from "../host/remote";
import { type Json, isJson, json, list, text } from "../json";
import { Observable } from "../observable";
import { LOCAL } from "./route";

/** A folder to work in. */
export interface Place {
  readonly environment: string;
  readonly path: string;
}

/** A model of Codex's. */
export interface Model {
  readonly id: string;
  readonly name: string;
  /** Its own choice among `efforts`; empty where it has none. */
  readonly effort: string;
  readonly efforts: readonly string[];
}

/** What the screen shows. */
export interface ChoicesView {
  /** The host's environments; of no use until `places` were read. */
  readonly environments: readonly EnvironmentInfo[];
  /** The workspaces in those that take threads; `null` until they were read, in whichever of them. */
  readonly places: readonly Place[] | null;
  /** The environments whose workspaces are still to come: a machine may have to be connected for them. */
  readonly awaited: ReadonlySet<string>;
  readonly models: readonly Model[];
  /** Codex's configuration for the folder that was chosen; `null` until it was read. */
  readonly config: Json | null;
  /** Why something can't be chosen: for a person. */
  readonly fault: string | null;
}

/** Whether a thread can begin there, as far as this is known: what is said to Codex on the host itself waits for it. */
export function takesThreads({ name, maxScope, state }: EnvironmentInfo): boolean {
  return maxScope !== "view" && (name === LOCAL || (state !== "failed" && state !== "stopped"));
}

/** Models, out of what Codex answers to `model/list`; the one it calls its default at their head. */
export function modelsOf(data: unknown): readonly Model[] {
  const models = new Map(
    list(data)
      .filter(isJson)
      .map((model) => [text(model.model), model]),
  );
  return [...models.values()]
    .filter(({ model, hidden }) => text(model) !== "" && hidden !== true)
    .sort((a, b) => Number(b.isDefault === true) - Number(a.isDefault === true))
    .map(({ model, displayName, defaultReasoningEffort, supportedReasoningEfforts }) => ({
      id: text(model),
      name: text(displayName) || text(model),
      effort: text(defaultReasoningEffort),
      efforts: [...new Set(list(supportedReasoningEfforts).filter(isJson).map(effortOf))].filter(Boolean),
    }));
}

function effortOf({ reasoningEffort }: Json): string {
  return text(reasoningEffort);
}

/** See the module's header. {@link Choices.close} ends it. */
export class Choices {
  readonly view = new Observable<ChoicesView>({
    environments: [],
    places: null,
    awaited: new Set(),
    models: [],
    config: null,
    fault: null,
  });
  readonly #remote: Pick<RemoteHost, "api" | "session">;
  #environment: string | null = null;
  #place: Place | null = null;
  #asking = new AbortController();

  constructor(remote: Pick<RemoteHost, "api" | "session">) {
    this.#remote = remote;
    void this.#look();
  }

  /** Nobody looks any more. */
  close(): void {
    this.#asking.abort();
  }

  /** Reads the models of this environment. */
  modelsOf(environment: string): void {
    if (environment !== this.#environment) {
      this.#environment = environment;
      void this.#models(environment);
    }
  }

  /** Reads Codex's configuration for this folder. */
  configOf(place: Place): void {
    if (place.environment !== this.#place?.environment || place.path !== this.#place.path) {
      this.#place = place;
      this.view.set({ ...this.view.value, config: null });
      void this.#config(place);
    }
  }

  /** What the host says by itself. */
  notified({ method }: Exclude<Notification, { method: "notices/missed" }>): void {
    if (method === "workspace/changed" || method === "environment/changed" || method === "environment/removed") {
      this.missed();
    }
  }

  /** Something was not heard: all is read again. */
  missed(): void {
    void this.#look();
    if (this.#environment !== null) {
      void this.#models(this.#environment);
    }
    if (this.#place !== null) {
      void this.#config(this.#place);
    }
  }

  async #look(): Promise<void> {
    this.#asking.abort();
    this.#asking = new AbortController();
    const { signal } = this.#asking;
    const { api } = this.#remote;
    try {
      const { data } = await api.request("environment/list", {}, signal);
      const open = data.filter(takesThreads).map(({ name }) => name);
      const places = this.view.value.places?.filter(({ environment }) => open.includes(environment)) ?? null;
      this.view.set({ ...this.view.value, environments: data, places, awaited: new Set(open), fault: null });
      await Promise.all(open.map((name) => this.#placesOf(name, signal)));
    } catch (error) {
      if (!(error instanceof RequestError)) {
        throw error;
      }
      this.#failed(error, signal);
    }
  }

  async #placesOf(environment: string, signal: AbortSignal): Promise<void> {
    try {
      const { data } = await this.#remote.api.request("workspace/list", { environment }, signal);
      if (!signal.aborted) {
        this.#found(
          environment,
          data.map(({ path }) => ({ environment, path })),
        );
      }
    } catch (error) {
      if (!(error instanceof RequestError)) {
        throw error;
      }
      if (environment === LOCAL) {
        this.#failed(error, signal);
      } else if (!signal.aborted && error.fault.kind !== "gap") {
        // Why a machine is out of reach is told of the machine.
        this.#found(environment, []);
      }
    }
  }

  /** Takes the workspaces of an environment, in the host's order of them. */
  #found(environment: string, found: readonly Place[]): void {
    const { environments, places, awaited } = this.view.value;
    const others = (places ?? []).filter((place) => place.environment !== environment);
    const sorted = environments.flatMap(({ name }) =>
      [...others, ...found].filter((place) => place.environment === name),
    );
    const rest = new Set([...awaited].filter((name) => name !== environment));
    this.view.set({ ...this.view.value, places: sorted, awaited: rest });
  }

  #failed({ fault, message }: RequestError, signal: AbortSignal): void {
    // What is asked anew anyway is no fault.
    if (!signal.aborted && fault.kind !== "gap") {
      this.view.set({ ...this.view.value, fault: message });
    }
  }

  async #models(environment: string): Promise<void> {
    try {
      const { data } = await Codex.once(this.#remote.session, environment, "model/list", {});
      if (environment === this.#environment) {
        this.view.set({ ...this.view.value, models: modelsOf(data) });
      }
    } catch (error) {
      if (!(error instanceof CodexError)) {
        throw error;
      }
      // Without them the host's own model is what there is; they are read again when Codex is ready.
      this.view.set({ ...this.view.value, models: [] });
    }
  }
  async #config(place: Place): Promise<void> {
    try {
      const { config } = await Codex.once(this.#remote.session, place.environment, "config/read", { cwd: place.path });
      if (place === this.#place) {
        this.view.set({ ...this.view.value, config: json(config) });
      }
    } catch (error) {
      if (!(error instanceof CodexError)) {
        throw error;
      }
      // It is read again when Codex is ready; until then nothing is said of it.
    }
  }
}
