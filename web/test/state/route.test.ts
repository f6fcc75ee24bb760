import { expect, test } from "vitest";
import { type Route, hashOf, routeOf } from "../../src/state/route";

test("each route is its fragment's", () => {
  const routes: Route[] = [
    { at: "hosts" },
    { at: "inbox" },
    { at: "settings" },
    { at: "add" },
    { at: "scan" },
    { at: "code" },
    { at: "pair" },
    { at: "host", host: "f5e7zbnrzxjetbxdvh54dzeeei" },
    { at: "about", host: "f5e7zbnrzxjetbxdvh54dzeeei" },
    { at: "devices", host: "f5e7zbnrzxjetbxdvh54dzeeei" },
    { at: "connection", host: "f5e7zbnrzxjetbxdvh54dzeeei" },
    { at: "new", host: "f5e7zbnrzxjetbxdvh54dzeeei" },
    { at: "thread", host: "f5e7", environment: "local", thread: "01a2169c-4edd" },
    { at: "thread", host: "f5e7", environment: "ssh:dev/box", thread: "../#/%2F?" },
    { at: "output", host: "f5e7", environment: "local", thread: "01a2", item: "01a3 call_7" },
    { at: "output", host: "f5e7", environment: "ssh:dev/box", thread: "01a2", item: "a/b #" },
  ];
  for (const route of routes) {
    expect(routeOf(hashOf(route))).toEqual(route);
  }
});

test("what is no route leads to the hosts", () => {
  for (const hash of [
    "",
    "#",
    "#/",
    "#/h",
    "#/h/",
    "#/h/a/b",
    "#/h/a/t",
    "#/h/a/t/",
    "#/h/a/t/%",
    "#/h/a/t/b/c/d",
    "#/h/a/o",
    "#/h/a/o/b",
    "#/h/a/o/b/",
    "#/h/a/o/b/%",
    "#/h/a/o/b/c/",
    "#/h/a/o/b/c/d/e",
    "#/h/a/about/b",
    "#/h/a/new/b",
    "#/h/a/devices/b",
    "#/h/a/connection/b",
    "#/h/a/t/b/",
    "#/h/<b>",
    "#/nothing",
    "#/add/more",
    "#/settings/more",
    "#AEAQ",
  ]) {
    expect(routeOf(hash)).toEqual({ at: "hosts" });
  }
});
