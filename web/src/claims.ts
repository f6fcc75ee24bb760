/**
 * How a device proves its identity key to the relay: a JWT that it signs with that key, carried in its hello.
 *
 * It names the relay, the key, the role, the host wanted and the nonce of the relay's challenge. The nonce is fresh for
 * each connection, so a proof is worth nothing on another one; that is why it has no expiry, and needs no clock.
 */
import { encode } from "./base32";
import { type Bytes, utf8 } from "./bytes";
import { type Identity, sign } from "./crypto/keys";

/** What a peer proves its key for; devices name the host they want. */
export type ProofRole =
  { readonly role: "host" } | { readonly role: "host-data" } | { readonly role: "device"; readonly host: Bytes };

/** The proof that `identity` answers this relay's challenge in this role. */
export async function prove(identity: Identity, relay: Bytes, nonce: Bytes, role: ProofRole): Promise<string> {
  const claims = {
    aud: encode(relay),
    sub: encode(identity.publicKey),
    nonce: encode(nonce),
    role: role.role,
    ...(role.role === "device" && { host: encode(role.host) }),
  };
  const message = `${part({ typ: "JWT", alg: "EdDSA" })}.${part(claims)}`;
  return `${message}.${base64url(await sign(identity, utf8(message)))}`;
}

function part(value: object): string {
  return base64url(utf8(JSON.stringify(value)));
}

function base64url(bytes: Bytes): string {
  return btoa(String.fromCharCode(...bytes))
    .replaceAll("+", "-")
    .replaceAll("/", "_")
    .replaceAll("=", "");
}
