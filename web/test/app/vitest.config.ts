/**
 * Tests of the app in Debian's Chromium (`apt-get install -y chromium`; `CHROMIUM` names another), served by the
 * programs themselves, which have to be built with the app in them (`cargo xtask web build`, `cargo build`), with the
 * pinned Codex installed, and an SSH server (`openssh-server`). `cargo xtask test --only app` does all of that and runs them; `npm run test:app` runs them.
 * `SCREENS=1` leaves pictures of the screens in `screens/`.
 */
import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/app/**/*.test.ts"],
    environment: "node",
    // Node.js 20 has a browser's WebSocket behind this flag; later ones have it anyway.
    execArgv: ["--experimental-websocket"],
    // One relay and one host serve a whole file. Two files at once, as each waits most of its time; by default it is one less than cores.
    sequence: { concurrent: false },
    maxWorkers: 2,
    testTimeout: 60_000,
    hookTimeout: 60_000,
  },
});
