/**
 * Measures the app in Debian's Chromium, served by the programs themselves: `cargo xtask bench web` builds all of that
 * and runs it. No test: a goal that is missed is said, and fails nothing. `BENCH_JSON=1` has it print lines of JSON in
 * the place of a table, `BENCH_QUICK=1` measures little of everything, to see that it works.
 */
import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["bench/*.bench.ts"],
    environment: "node",
    // Node.js 20 has a browser's WebSocket behind this flag; later ones have it anyway.
    execArgv: ["--experimental-websocket"],
    reporters: ["./bench/reporter.ts"],
    // Whatever runs beside it is measured too.
    fileParallelism: false,
    sequence: { concurrent: false },
    testTimeout: 20 * 60_000,
    hookTimeout: 60_000,
  },
});
