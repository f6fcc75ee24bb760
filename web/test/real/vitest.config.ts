/**
 * Tests against the programs themselves, which have to be built (`cargo build`), with the pinned Codex installed
 * (`npm ci --prefix tests/codex`). Run them with `npm run test:real`.
 */
import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/real/**/*.test.ts"],
    environment: "node",
    // Node.js 20 has a browser's WebSocket behind this flag; later ones have it anyway.
    execArgv: ["--experimental-websocket"],
    testTimeout: 120_000,
  },
});
