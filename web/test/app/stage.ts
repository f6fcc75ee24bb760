/**
 * What browser tests stand on: one browser for all of a file, and for each of them its own phone, with a host of its own
 * or, where a file needs both as programs of their own, with one relay and one host for all. It puts all of that away.
 */
import type { Browser } from "playwright-core";
import { afterAll, afterEach, beforeAll, expect } from "vitest";
import { Apart } from "../real/apart";
import { Second } from "../real/second";
import { Up } from "../real/up";
import { Desk } from "./desk";
import { Leftovers } from "./leftovers";
import { Phone, startChromium } from "./phone";
import { Terminal } from "./terminal";

/** What a file needs besides. */
export interface Needs {
  /** A relay and a host, for all of its tests together. */
  readonly apart?: boolean;
  /** More arguments of Chromium's. */
  readonly chromium?: readonly string[];
}

export class Stage {
  /** What a test has started, and what is put away after it. */
  readonly leftovers = new Leftovers();
  #browser: Browser | null = null;
  #apart: Apart | null = null;

  private constructor() {
    afterEach(() => this.leftovers.putAway());
  }

  /** For the tests of the file that asks. */
  static ofFile({ apart = false, chromium = [] }: Needs = {}): Stage {
    const stage = new Stage();
    const starting: Promise<unknown>[] = [];
    beforeAll(async () => {
      starting.push(
        startChromium(...chromium).then((browser) => (stage.#browser = browser)),
        apart ? Apart.start().then((both) => (stage.#apart = both)) : Promise.resolve(),
      );
      await Promise.all(starting);
    });
    afterAll(async () => {
      // Where one did not start, or not in time, the other one may still be starting.
      await Promise.allSettled(starting);
      await Promise.all([stage.#browser?.close(), stage.#apart?.stop()]);
    });
    return stage;
  }

  get browser(): Browser {
    return there(this.#browser);
  }

  get apart(): Apart {
    return there(this.#apart);
  }

  /**
   * A phone that has never been here. What its page complains of fails the test, unless `bears` says that it may;
   * `workers`: whether its browser lets a service worker in.
   */
  async unbox({
    browser = this.browser,
    bears = NOTHING,
    workers = true,
  }: { browser?: Browser; bears?: RegExp; workers?: boolean } = {}): Promise<Phone> {
    const phone = await Phone.unbox(browser, { workers });
    this.leftovers.add(async () => {
      expect((await phone.close()).filter((complaint) => !bears.test(complaint))).toEqual([]);
    });
    return phone;
  }

  /** Starts a host of its own, and pairs the phone with it. */
  async pairs(phone: Phone, prepare?: Parameters<typeof Up.start>[0]): Promise<Up> {
    const up = await Up.start(prepare);
    // The phone is put away before: what its page says of a host that ends is none of a test's.
    this.leftovers.addLast(async () => {
      expect(await up.stop()).toBe(0);
    });
    await phone.opens(up.pairingUrl);
    await phone.sees("Paired with");
    return up;
  }

  /** Starts a second host at the relay of the one that is there, and pairs the phone with it as well. */
  async pairsToo(phone: Phone, ...how: Parameters<typeof Second.start>): Promise<Second> {
    const second = await Second.start(...how);
    this.leftovers.addLast(() => second.stop());
    const command = second.command("pair", "--yes");
    await phone.opens(await command.says("pairing", "url"));
    await phone.sees("Paired with");
    await command.stop("SIGTERM");
    return second;
  }

  /** Somebody at another device of the host. */
  async desk(up: Pick<Up, "command">, name?: string): Promise<Desk> {
    const desk = await Desk.at(up, name);
    this.leftovers.add(() => desk.leaves());
    return desk;
  }

  /** Runs this command of the host's owner in a terminal: of the host that is there for all tests. */
  terminal(...args: readonly string[]): Terminal {
    const terminal = new Terminal(this.apart.env, ...args);
    this.leftovers.add(async () => {
      await Promise.resolve();
      terminal.close();
    });
    return terminal;
  }
}

/** A pattern that nothing matches. */
const NOTHING = /(?!)/;

function there<T>(value: T | null): T {
  if (value === null) {
    throw new Error("it has not started, or the file did not ask for it");
  }
  return value;
}
