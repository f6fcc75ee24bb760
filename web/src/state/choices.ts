/** What a new thread can be given: the folders that are open to devices, and Codex's models. */
import { RequestError } from "../api/error";
import type { Notification } from "../api/types";
import { Codex, CodexError } from "../host/codex";
import type { RemoteHost } from "../host/remote";
import { type Json, isJson, json, list, text } from "../json";
import { Observable } from "../observable";

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
  /** The host's environments, by their names; of no use until `places` were read. */
  readonly environments: readonly string[];
  /** The workspaces in all of them; `null` until they were read. */
  readonly places: readonly Place[] | null;
  readonly models: readonly Model[];
  /** Codex's configuration for the folder that was chosen; `null` until it was read. */
  readonly config: Json | null;
  /** Why something can't be chosen: for a person. */
  readonly fault: string | null;
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
    models: [],
    config: null,
    fault: null,
  });
  readonly #remote: RemoteHost;
  #environment: string | null = null;
  #place: Place | null = null;
  #asking = new AbortController();

  constructor(remote: RemoteHost) {
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
      const places = await Promise.all(
        data.map(async ({ name }) => {
          const workspaces = await api.request("workspace/list", { environment: name }, signal);
          return workspaces.data.map(({ path }): Place => ({ environment: name, path }));
        }),
      );
      const environments = data.map(({ name }) => name);
      this.view.set({ ...this.view.value, environments, places: places.flat(), fault: null });
    } catch (error) {
      if (!(error instanceof RequestError)) {
        throw error;
      }
      // What is asked anew anyway is no fault.
      if (!signal.aborted && error.fault.kind !== "gap") {
        this.view.set({ ...this.view.value, fault: error.message });
      }
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
