/**
 * How the app is built (`cargo xtask web build`) into `dist/`, which becomes part of the relay, and how it is served
 * while it is worked on (`cargo xtask web dev`), with a running relay behind it.
 */
import { svelte } from "@sveltejs/vite-plugin-svelte";
import { type Plugin, defineConfig } from "vite";
import { compression } from "vite-plugin-compression2";

/** The relay behind the development server: that of `cargo xtask up` unless `RELAY` names another. */
const relay = process.env.RELAY ?? "http://127.0.0.1:7420";

/** Fills in, while the app is worked on, what the relay fills into its page: who it is. */
function relayOfPage(): Plugin {
  return {
    name: "reachback-relay",
    apply: "serve",
    transformIndexHtml: async (html) => {
      const page = await (await fetch(relay)).text();
      return ["reachback-relay", "reachback-fingerprint"].reduce((filled, name) => {
        const meta = new RegExp(`<meta name="${name}" content="[^"]*"`);
        return filled.replace(meta, meta.exec(page)?.[0] ?? "$&");
      }, html);
    },
  };
}

export default defineConfig({
  plugins: [svelte(), compression({ algorithms: ["gzip", "brotliCompress"], exclude: /\.html$/ }), relayOfPage()],
  build: {
    // What the protocol needs of a browser (X25519 in its WebCrypto) is newer than all of this.
    target: "es2022",
    // A file inside another one would be a `data:` URL, which the policy refuses.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
  server: { proxy: { "/v1": { target: relay, ws: true, changeOrigin: true, rewriteWsOrigin: true } } },
});
