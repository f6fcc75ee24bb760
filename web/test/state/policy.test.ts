import { expect, test } from "vitest";
import { policyOf } from "../../src/state/policy";

test("what the configuration says is said, and where it does not what Codex does by itself", () => {
  expect(policyOf({}, true)).toEqual({ asks: "must", writes: "profile" });
  expect(policyOf({ approval_policy: "never", sandbox_mode: "read-only" }, true)).toEqual({
    asks: "never",
    writes: "nothing",
  });
  expect(policyOf({ approval_policy: "untrusted", sandbox_mode: "danger-full-access" }, true)).toEqual({
    asks: "always",
    writes: "anywhere",
  });
  const granular = { approval_policy: { granular: { rules: true } }, sandbox_mode: "workspace-write" };
  expect(policyOf(granular, true)).toEqual({ asks: "rules", writes: "folder" });
  expect(policyOf({ approval_policy: "new to this app" }, true).asks).toBe("rules");
});

test("the agent's profile stands for the one that it extends", () => {
  const config = (base: unknown): Record<string, unknown> => ({
    approval_policy: null,
    sandbox_mode: null,
    default_permissions: "reachback-1",
    permissions: { "reachback-1": { extends: base } },
  });
  expect(policyOf(config(":workspace"), true)).toEqual({ asks: "must", writes: "folder" });
  expect(policyOf(config(":read-only"), true).writes).toBe("nothing");
  expect(policyOf(config("own"), true).writes).toBe("profile");
  expect(policyOf(config(7), true).writes).toBe("profile");
  expect(policyOf({ default_permissions: ":workspace" }, true).writes).toBe("folder");
});

test("what is no workspace is only read, and Codex asks there more often", () => {
  const config = { sandbox_mode: "danger-full-access" };
  expect(policyOf(config, false)).toEqual({ asks: "always", writes: "nothing" });
  expect(policyOf({ ...config, approval_policy: "on-request" }, false)).toEqual({ asks: "must", writes: "nothing" });
});
