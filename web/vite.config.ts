/**
 * How the app is built (`cargo xtask web build`) into `dist/`, which becomes part of the relay, and how it is served
 * while it is worked on (`cargo xtask web dev`), with a running relay behind it.
 */
import { createHash } from "node:crypto";
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

/**
 * The scripts of a first look, each with all that it needs and an earlier one has not: the page's own, what this browser
 * keeps, the app as far as somebody new sees it. `places` comes with the first touch, or where a host is kept.
 */
const SCRIPTS = [
  { name: "first", test: /\/src\/main\.ts$/, priority: 4 },
  { name: "kept", test: /\/src\/store\/kept\.ts$/, priority: 3 },
  { name: "app", test: /\/src\/app\.ts$/, priority: 2 },
  { name: "places", test: /\/src\/views\/placed\.ts$/, priority: 1 },
];
/** Those that the first one loads once it has looked at the browser. */
const AT_ONCE = ["kept", "app"];
/** Has Chromium compile all of a script beside the page's own thread; other browsers take it for a comment. */
const COMPILED = "//# allFunctionsCalledOnLoad";

/**
 * Has the page ask for the app beside its first script, which looks at the browser and then loads it: that runs nothing
 * sooner, and saves a round trip.
 */
function appAtOnce(): Plugin {
  return {
    name: "reachback-at-once",
    apply: "build",
    transformIndexHtml: {
      order: "post",
      handler(html, { bundle = {} }) {
        const chunks = Object.values(bundle).filter((file) => file.type === "chunk");
        const asked = chunks.filter(({ name }) => AT_ONCE.includes(name));
        const files = new Set(asked.flatMap(({ fileName, imports }) => [fileName, ...imports]));
        return [...files]
          .filter((file) => !html.includes(file))
          .map((file) => ({
            tag: "link",
            attrs: { rel: "modulepreload", crossorigin: true, href: `/${file}` },
            injectTo: "head",
          }));
      },
    },
  };
}

/** Builds the service worker, with the page and the digests of its files in it: those whose names change with their content. */
function worker(): Plugin {
  const name = "sw.js";
  return {
    name: "reachback-worker",
    apply: "build",
    buildStart() {
      this.emitFile({ type: "chunk", id: "src/worker/main.ts", fileName: name });
    },
    generateBundle: {
      order: "post",
      handler(_, bundle) {
        const { [name]: script, "index.html": index } = bundle;
        if (script?.type !== "chunk" || index?.type !== "asset" || script.imports.length > 0) {
          throw new Error(`${name} has to be one file, beside a page`);
        }
        const digest = (content: string | Uint8Array) => createHash("sha256").update(content).digest("base64");
        const kept = Object.values(bundle).filter(({ fileName }) => /^assets\/.*(?<!\.gz|\.br)$/.test(fileName));
        const files = Object.fromEntries(
          kept.map((file) => [`/${file.fileName}`, digest(file.type === "chunk" ? file.code : file.source)]),
        );
        const page = typeof index.source === "string" ? index.source : new TextDecoder().decode(index.source);
        const build = { id: digest(script.code + page + JSON.stringify(files)), page, files };
        script.code = `const REACHBACK_BUILD=${JSON.stringify(build)};\n${script.code}`;
      },
    },
  };
}

/** What is not compressed: the page, which the relay fills in, and the worker, which is not written yet when that is done. */
const AS_IT_IS = [/\.html$/, /^sw\.js$/];

export default defineConfig({
  plugins: [
    svelte(),
    compression({ algorithms: ["gzip", "brotliCompress"], exclude: AS_IT_IS }),
    relayOfPage(),
    appAtOnce(),
    worker(),
  ],
  build: {
    // What the protocol needs of a browser (X25519 in its WebCrypto) is newer than all of this.
    target: "es2022",
    // What others wrote of it may be passed on with their notices only; the settings lead there.
    license: { fileName: "licenses.txt" },
    // A file inside another one would be a `data:` URL, which the policy refuses.
    assetsInlineLimit: 0,
    // What a script imports is there before it, or on its way with the page.
    modulePreload: false,
    rolldownOptions: {
      output: {
        codeSplitting: { groups: SCRIPTS },
        postBanner: ({ name }) => (AT_ONCE.includes(name) ? COMPILED : ""),
      },
    },
  },
  server: { proxy: { "/v1": { target: relay, ws: true, changeOrigin: true, rewriteWsOrigin: true } } },
});
