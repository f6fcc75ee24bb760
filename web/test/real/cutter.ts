/** A way to the relay that is cut: not closed, as a WebSocket would be. */
import { type AddressInfo, type Server, type Socket, connect, createServer } from "node:net";

export class Cutter {
  readonly #server: Server;
  readonly #open = new Set<() => void>();
  /** How many bytes, both ways together, each connection carries before it is cut. */
  budget: () => number = () => Infinity;
  /** How many were cut. */
  cuts = 0;

  private constructor(server: Server) {
    this.#server = server;
  }

  /** A way to this relay on loopback. */
  static async to(relay: URL): Promise<Cutter> {
    const server = createServer();
    const cutter = new Cutter(server);
    server.on("connection", (near) => {
      cutter.#carry(near, connect(Number(relay.port), relay.hostname));
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    return cutter;
  }

  /** This URL of the relay's, by this way. */
  through(relay: string): string {
    const address: AddressInfo | string | null = this.#server.address();
    const url = new URL(relay);
    url.port = String(typeof address === "object" && address !== null ? address.port : 0);
    return url.href;
  }

  /** Cuts what is open. */
  cut(): void {
    this.#open.forEach((cut) => {
      cut();
    });
  }

  /** Cuts what is open, and lets nobody in any more. */
  close(): void {
    this.#server.close();
    this.cut();
  }

  #carry(near: Socket, far: Socket): void {
    let left = this.budget();
    const end = (): void => {
      near.destroy();
      far.destroy();
      this.#open.delete(end);
    };
    this.#open.add(end);
    const pipe = (from: Socket, to: Socket): void => {
      from.on("data", (data) => {
        left -= data.length;
        if (left < 0) {
          this.cuts += 1;
          end();
        } else {
          to.write(data);
        }
      });
      from.on("close", end);
      from.on("error", end);
    };
    pipe(near, far);
    pipe(far, near);
  }
}
