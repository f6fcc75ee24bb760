import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig } from "vitest/config";

export default defineConfig({
  plugins: [svelte()],
  test: {
    include: ["test/**/*.test.ts"],
    exclude: ["test/real/**", "test/app/**"],
    environment: "node",
    // A typed code is stretched for a second, and for ten where compilers run beside it. What hangs is still found.
    testTimeout: 60_000,
    hookTimeout: 60_000,
  },
});
