/** A certificate for loopback that nobody vouches for but who is told to (Debian: apt install openssl). */
import { execFileSync } from "node:child_process";
import { X509Certificate, createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export class Certificate {
  readonly #folder = mkdtempSync(join(tmpdir(), "reachback-certificate-"));
  /** The files, PEM. */
  readonly cert = join(this.#folder, "cert.pem");
  readonly key = join(this.#folder, "key.pem");

  constructor() {
    const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", this.key];
    const name = ["-subj", "/CN=Reachback test", "-addext", "subjectAltName=IP:127.0.0.1"];
    const kind = ["-addext", "basicConstraints=critical,CA:FALSE", "-days", "2"];
    execFileSync("openssl", ["req", "-x509", ...key, ...name, ...kind, "-out", this.cert], { stdio: "pipe" });
  }

  /** What is in them. */
  get pems(): { readonly cert: Buffer; readonly key: Buffer } {
    return { cert: readFileSync(this.cert), key: readFileSync(this.key) };
  }

  /** The argument by which Chromium takes it, and no other that nobody vouches for. */
  get trusted(): string {
    const der = new X509Certificate(this.pems.cert).publicKey.export({ type: "spki", format: "der" });
    return `--ignore-certificate-errors-spki-list=${createHash("sha256").update(der).digest("base64")}`;
  }

  /** Removes the files. */
  remove(): void {
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
