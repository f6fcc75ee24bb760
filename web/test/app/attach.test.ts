/** Photos and files go along with what a person writes on a phone: the real Codex gives them to its model. */
import { createHash } from "node:crypto";
import { beforeEach, expect, test, vi } from "vitest";
import { type Json, json, list, text } from "../../src/json";
import { named } from "../../src/views/named";
import { FILE } from "../hostile";
import type { Up } from "../real/up";
import { audits } from "./audit";
import type { Desk } from "./desk";
import type { Phone } from "./phone";
import { Stage } from "./stage";

type Locator = ReturnType<Phone["page"]["locator"]>;

/** What a camera writes beside the picture; the place is a person's own. */
const PLACE = "48.2082N 16.3738E";

let up: Up;
let desk: Desk;
let phone: Phone;
let thread: string;
/** Whether what the phone sends is lost on the way. */
let mute = false;
const stage = Stage.ofFile();

beforeEach(async () => {
  phone = await stage.unbox();
  mute = false;
  await phone.page.routeWebSocket(/.*/, (socket) => {
    const relay = socket.connectToServer();
    socket.onMessage((message) => {
      if (!mute) {
        relay.send(message);
      }
    });
    relay.onMessage((message) => {
      socket.send(message);
    });
  });
  up = await stage.pairs(phone);
  desk = await stage.desk(up);
  thread = await desk.finishes(up.project, "mend the shop");
  await phone.taps(/^Open/);
  await phone.page.locator("li.thread").first().tap();
  await field().waitFor();
  await phone.sees("You are talking to the real Codex");
});

function field(): Locator {
  return phone.page.getByLabel("Message to Codex");
}

function attached(): Locator {
  return phone.page.getByRole("list", { name: "Attached" }).getByRole("listitem");
}

function mine(what: string): Locator {
  return phone.page.locator(".me").filter({ hasText: what });
}

function said(): Locator {
  return phone.page.locator(".say");
}

interface Upload {
  readonly name: string;
  readonly mimeType: string;
  readonly buffer: Buffer;
}

/** Picks these, as a person does: the button opens the browser's own list. */
async function picks(...files: readonly Upload[]): Promise<void> {
  const [chooser] = await Promise.all([
    phone.page.waitForEvent("filechooser"),
    phone.page.getByRole("button", { name: "Attach photo or file" }).tap(),
  ]);
  await chooser.setFiles([...files]);
}

/** A picture whose left half is red and whose right half is blue, as a browser writes it. */
async function picture(width: number, height: number, type: "image/jpeg" | "image/png"): Promise<Buffer> {
  const base64 = await phone.page.evaluate(
    ([width, height, type]) => {
      const canvas = document.createElement("canvas");
      [canvas.width, canvas.height] = [width, height];
      const context = canvas.getContext("2d");
      if (context !== null) {
        context.fillStyle = "red";
        context.fillRect(0, 0, width / 2, height);
        context.fillStyle = "blue";
        context.fillRect(width / 2, 0, width / 2, height);
      }
      return canvas.toDataURL(type).split(",")[1] ?? "";
    },
    [width, height, type] as const,
  );
  return Buffer.from(base64, "base64");
}

/** The same as a phone's camera writes it that was held upright: to be turned clockwise, with the place beside it. */
function fromCamera(jpeg: Buffer): Buffer {
  const description = Buffer.from(`${PLACE}\0`);
  const entry = (tag: number, type: number, count: number, value: number): Buffer => {
    const bytes = Buffer.alloc(12);
    bytes.writeUInt16BE(tag, 0);
    bytes.writeUInt16BE(type, 2);
    bytes.writeUInt32BE(count, 4);
    if (type === 3) {
      bytes.writeUInt16BE(value, 8);
    } else {
      bytes.writeUInt32BE(value, 8);
    }
    return bytes;
  };
  const entries = [entry(0x010e, 2, description.length, 38), entry(0x0112, 3, 1, 6)];
  const tiff = Buffer.concat([
    Buffer.from("MM\0\u002a\0\0\0\u0008\0\u0002", "latin1"),
    ...entries,
    Buffer.alloc(4),
    description,
  ]);
  const exif = Buffer.concat([Buffer.from("Exif\0\0", "latin1"), tiff]);
  const head = Buffer.alloc(4);
  head.writeUInt16BE(0xffe1, 0);
  head.writeUInt16BE(exif.length + 2, 2);
  return Buffer.concat([jpeg.subarray(0, 2), head, exif, jpeg.subarray(2)]);
}

async function photo(name = "IMG_0412.jpg", width = 3_000, height = 1_500): Promise<Upload> {
  return { name, mimeType: "image/jpeg", buffer: fromCamera(await picture(width, height, "image/jpeg")) };
}

interface Kept {
  readonly name: string;
  readonly type: string;
  readonly base64: string;
}

/** What the phone keeps of what is attached. */
async function kept(): Promise<readonly Kept[]> {
  return phone.page.evaluate(
    () =>
      new Promise<Kept[]>((resolve) => {
        const open = indexedDB.open("reachback");
        open.onsuccess = () => {
          const all = open.result.transaction("attachments").objectStore("attachments").getAll();
          all.onsuccess = () => {
            open.result.close();
            const rows: unknown[] = all.result;
            resolve(
              rows.map((row) => {
                if (typeof row !== "object" || row === null || !("data" in row && "name" in row && "type" in row)) {
                  throw new Error("it is no attachment");
                }
                let binary = "";
                const { name, type, data } = row;
                if (data instanceof Uint8Array) {
                  data.forEach((byte) => (binary += String.fromCharCode(byte)));
                }
                return { name: String(name), type: String(type), base64: btoa(binary) };
              }),
            );
          };
        };
      }),
  );
}

/** A picture's size, and the colours of its first and last pixel. */
async function looks({ type, base64 }: Kept): Promise<{ size: readonly number[]; first: string; last: string }> {
  return phone.page.evaluate(
    async ([type, base64]) => {
      const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
      const bitmap = await createImageBitmap(new Blob([bytes], { type }));
      const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
      const context = canvas.getContext("2d", { willReadFrequently: true });
      context?.drawImage(bitmap, 0, 0);
      const colourAt = (x: number, y: number): string => {
        const [red = 0, , blue = 0] = context?.getImageData(x, y, 1, 1).data ?? [];
        return red > 200 && blue < 60 ? "red" : blue > 200 && red < 60 ? "blue" : "other";
      };
      const { width, height } = bitmap;
      return { size: [width, height], first: colourAt(2, 2), last: colourAt(width - 3, height - 3) };
    },
    [type, base64] as const,
  );
}

/** Waits until the model says that Codex asked it with exactly these pictures. */
async function modelSaw(...pictures: readonly Kept[]): Promise<void> {
  await said()
    .filter({ hasText: `Pictures: ${pictures.length}` })
    .waitFor();
  for (const { type, base64 } of pictures) {
    const url = `data:${type};base64,${base64}`;
    const digest = createHash("sha256").update(url).digest("hex");
    await said()
      .filter({ hasText: `${type} ${url.length} ${digest}` })
      .waitFor();
  }
}

/** What Codex has of a person's messages in the thread, the oldest first. */
async function content(): Promise<readonly (readonly Json[])[]> {
  const { thread: read } = await desk.asks("thread/read", { threadId: thread, includeTurns: true });
  return list(json(read).turns).flatMap((turn) =>
    list(json(turn).items)
      .map(json)
      .filter(({ type }) => type === "userMessage")
      .map(({ content }) => list(content).map(json)),
  );
}

async function sends(): Promise<void> {
  await phone.page.getByRole("button", { name: "Send", exact: true }).tap();
}

test("a photo is made small and upright without its place, survives a reload, and is what the model sees", async () => {
  await picks(await photo());
  await attached().getByText("IMG_0412.jpg").waitFor();
  const [row] = await kept();
  if (row === undefined) {
    throw new Error("it is not kept");
  }
  // It was 3,000 wide and 1,500 high, and lay on its side: what was left is above.
  expect(await looks(row)).toEqual({ size: [1_024, 2_048], first: "red", last: "blue" });
  const bytes = Buffer.from(row.base64, "base64");
  expect(row.type).toBe("image/jpeg");
  expect(bytes.includes("Exif") || bytes.includes(PLACE)).toBe(false);
  await field().fill("@seen");
  await audits(phone, "attach");
  await phone.shoots("attach");
  await phone.page.reload();
  await attached().getByText("IMG_0412.jpg").waitFor();
  expect(await field().inputValue()).toBe("@seen");
  await sends();
  await modelSaw(row);
  expect(await attached().count()).toBe(0);
  const shown = mine("@seen").getByRole("button", { name: "Picture, show it large" });
  await shown.waitFor();
  // The end of the thread stays in sight, whatever comes above it.
  const isAtEnd = (): Promise<boolean> =>
    phone.page.locator("main").evaluate((main) => main.scrollHeight - main.scrollTop - main.clientHeight < 2);
  await vi.waitUntil(async () => (await shown.boundingBox())?.height === 240 && (await isAtEnd()), { timeout: 10_000 });
  await audits(phone, "attach-sent");
  await phone.shoots("attach-sent");
  await shown.tap();
  await phone.page.getByRole("img", { name: "Picture" }).waitFor();
  await audits(phone, "attach-large");
  await phone.shoots("attach-large");
  const { href } = await phone.page.evaluate(() => location);
  const isSmallAgain = (): Promise<void> => phone.page.getByRole("dialog").waitFor({ state: "detached" });
  await phone.taps("Close");
  await isSmallAgain();
  // So do the browser's back, which leads out of no thread, and Escape; forward leads back to none.
  await shown.tap();
  await phone.page.getByRole("img", { name: "Picture" }).waitFor();
  await phone.page.goBack();
  await isSmallAgain();
  expect(await shown.evaluate((button) => document.activeElement === button)).toBe(true);
  await phone.page.goForward();
  await vi.waitUntil(() => phone.page.evaluate(() => history.state === null), { timeout: 10_000 });
  await isSmallAgain();
  await shown.tap();
  await phone.page.getByRole("img", { name: "Picture" }).waitFor();
  await phone.page.keyboard.press("Escape");
  await isSmallAgain();
  expect(phone.page.url()).toBe(href);
  await phone.page.reload();
  await shown.waitFor();
  // Its bytes did not come back from the host.
  const [, mineNow] = await content();
  expect(mineNow?.map(({ type, url }) => [type, url])).toEqual([
    ["text", undefined],
    ["image", "data:image/jpeg;base64,"],
  ]);
});

test("what is held without a network keeps its picture over a reload, and comes back when it is withdrawn", async () => {
  await picks(await photo("held.jpg", 300, 200));
  await attached().getByText("held.jpg").waitFor();
  const [row] = await kept();
  mute = true;
  await field().fill("@seen");
  await sends();
  const picture = mine("@seen").getByRole("button", { name: "Picture, show it large" });
  await picture.waitFor();
  await phone.page.reload();
  await picture.waitFor();
  await mine("@seen").getByRole("button", { name: "Withdraw" }).tap();
  await attached().getByText("held.jpg").waitFor();
  expect(await kept()).toEqual([row]);
  await phone.taps(`Remove ${named("held.jpg")}`);
  await attached().waitFor({ state: "detached" });
  await vi.waitFor(async () => {
    expect(await kept()).toEqual([]);
  });
});

test("what waits in the queue is edited with its picture", async () => {
  await field().fill("@hang");
  await sends();
  await phone.page.getByRole("button", { name: "Stop" }).waitFor();
  await picks(await photo("later.jpg", 300, 200));
  await attached().getByText("later.jpg").waitFor();
  await field().fill("@seen");
  await phone.taps("After this turn");
  const queue = phone.page.getByRole("list", { name: "Queued for after this turn" });
  await queue.getByText("@seen · 1 picture").waitFor();
  const [row] = await kept();
  if (row === undefined) {
    throw new Error("it is not kept");
  }
  await phone.taps(`Edit queued message: ${named("@seen · 1 picture")}`);
  await attached().getByText("later.jpg").waitFor();
  expect(await field().inputValue()).toBe("@seen");
  await phone.taps("Stop");
  await phone.page.locator(".turnbar", { hasText: "Idle" }).waitFor();
  await sends();
  await modelSaw(row);
});

test("a thread begins with a picture", async () => {
  await phone.taps("Back to threads");
  await phone.taps("New");
  await phone.page.getByRole("button", { name: /^Folder/ }).waitFor();
  await picks({ name: "screen.png", mimeType: "image/png", buffer: await picture(300, 200, "image/png") });
  await attached().getByText("screen.png").waitFor();
  await phone.page.getByRole("textbox", { name: "First message" }).fill("@seen");
  await audits(phone, "attach-start");
  await phone.page.reload();
  await attached().getByText("screen.png").waitFor();
  const [row] = await kept();
  if (row === undefined) {
    throw new Error("it is not kept");
  }
  expect(row.type).toBe("image/png");
  await phone.taps("Start");
  await modelSaw(row);
  await mine("@seen").getByRole("button", { name: "Picture, show it large" }).waitFor();
});

test("nothing goes without a picture that was picked for it", async () => {
  await phone.page.evaluate(() => {
    const decode = createImageBitmap;
    Object.defineProperty(window, "createImageBitmap", {
      value: async (file: Blob) => {
        await new Promise((resolve) => {
          addEventListener("decoded", resolve, { once: true });
        });
        return decode(file);
      },
    });
  });
  await picks(await photo("slow.jpg", 300, 200));
  await phone.sees("Reading a file");
  await field().fill("@seen");
  const send = phone.page.getByRole("button", { name: "Send", exact: true });
  expect(await send.getAttribute("aria-disabled")).toBe("true");
  await field().press("Control+Enter");
  expect(await field().inputValue()).toBe("@seen");
  await phone.page.evaluate(() => dispatchEvent(new Event("decoded")));
  await attached().getByText("slow.jpg").waitFor();
  await phone.page.evaluate(() => {
    setInterval(() => dispatchEvent(new Event("decoded")), 10);
  });
  const [row] = await kept();
  await sends();
  await modelSaw(...(row === undefined ? [] : [row]));
});

test("too many, and what is no picture, are left out in words, and the rest is attached", async () => {
  const small = await picture(30, 20, "image/png");
  const eight = Array.from({ length: 8 }, (_, at) => ({ name: `${at}.png`, mimeType: "image/png", buffer: small }));
  await picks({ name: "broken.jpg", mimeType: "image/jpeg", buffer: small.subarray(0, 40) });
  await phone.sees("broken.jpg: can't be opened as a picture by this browser.");
  expect(await attached().count()).toBe(0);
  await picks({ name: "a.zip", mimeType: "application/zip", buffer: Buffer.from("PK\u0003\u0004\0\0", "latin1") });
  await phone.sees("a.zip: is neither a picture nor text");
  await picks(...eight, { name: "ninth.png", mimeType: "image/png", buffer: small });
  await phone.sees("ninth.png: not attached: 8 go along with one message. Send it with the next one.");
  expect(await attached().count()).toBe(8);
  const box = await field().boundingBox();
  expect((box?.y ?? 0) + (box?.height ?? 0)).toBeLessThan(844);
  await audits(phone, "attach-many");
  await phone.shoots("attach-many");
});

/** A photo of nothing but noise: no picture of its size has more bytes. */
async function noise(name: string): Promise<Upload> {
  const base64 = await phone.page.evaluate(() => {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [2_048, 2_048];
    const image = new ImageData(canvas.width, canvas.height);
    image.data.forEach((_, at) => (image.data[at] = at % 4 === 3 ? 255 : Math.random() * 256));
    canvas.getContext("2d")?.putImageData(image, 0, 0);
    return canvas.toDataURL("image/jpeg", 0.6).split(",")[1] ?? "";
  });
  return { name, mimeType: "image/jpeg", buffer: Buffer.from(base64, "base64") };
}

test("the most that goes along with one message arrives, and more is left out", async () => {
  await picks(await noise("0.jpg"));
  await attached().first().waitFor();
  const each = Buffer.from((await kept())[0]?.base64 ?? "", "base64").length;
  expect(each).toBeGreaterThan(1 << 20);
  expect(each).toBeLessThanOrEqual(2 << 20);
  const fit = Math.floor((8 << 20) / each);
  for (let at = 1; at <= fit; at++) {
    await picks(await noise(`${at}.jpg`));
    await attached()
      .nth(at)
      .or(phone.page.getByText(/\.jpg: not attached: that would be too much for one message/))
      .first()
      .waitFor();
  }
  await phone.sees(/\.jpg: not attached: that would be too much for one message. Send it with the next one./);
  const rows = await kept();
  expect(rows.length).toBeLessThanOrEqual(fit);
  await field().fill("@seen");
  await sends();
  await mine("@seen").getByText("Turn started").waitFor();
  // Codex itself makes the largest ones smaller still.
  await said()
    .filter({ hasText: `Pictures: ${rows.length}` })
    .waitFor();
  const [, mineNow] = await content();
  expect(mineNow?.map(({ type }) => type)).toEqual(["text", ...rows.map(() => "image")]);
}, 120_000);

test("a text file goes along as text, and its name is nothing but a name", async () => {
  const log = "one\n```\ntwo <b>bold</b>\n";
  await picks({ name: FILE, mimeType: "text/plain", buffer: Buffer.from(log) });
  const shown = "<img src=x onerror=alert(1)>[U+202E right-to-left override]gnp.txt";
  await attached().getByText(shown).waitFor();
  await phone.page.getByRole("button", { name: `Remove ${named(shown)}`, exact: true }).waitFor();
  await audits(phone, "attach-hostile");
  await field().fill("@say read");
  await sends();
  await said().filter({ hasText: "read" }).waitFor();
  const [, mineNow] = await content();
  expect(mineNow?.map(({ type, text: what }) => [type, text(what)])).toEqual([
    ["text", "@say read"],
    ["text", `Attached file, from the device that sends this: ${shown}\n\n\`\`\`\`\n${log}\`\`\`\``],
  ]);
  await mine("@say read").getByText("two <b>bold</b>").waitFor();
  expect(await phone.page.locator(".me img, .me b").count()).toBe(0);
  await vi.waitFor(async () => {
    expect(await kept()).toEqual([]);
  });
});

test("a picture is pasted into the message, and dropped on the page", async () => {
  const base64 = (await picture(30, 20, "image/png")).toString("base64");
  await phone.page.evaluate((base64) => {
    const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
    const data = (name: string): DataTransfer => {
      const transfer = new DataTransfer();
      transfer.items.add(new File([bytes], name, { type: "image/png" }));
      return transfer;
    };
    const field = document.querySelector(".composer textarea");
    const pasted = { clipboardData: data("pasted.png"), bubbles: true, cancelable: true };
    field?.dispatchEvent(new ClipboardEvent("paste", pasted));
    const dropped = { dataTransfer: data("dropped.png"), bubbles: true, cancelable: true };
    document.querySelector("main")?.dispatchEvent(new DragEvent("drop", dropped));
  }, base64);
  await attached().getByText("pasted.png").waitFor();
  await attached().getByText("dropped.png").waitFor();
});

test("another device is told of a picture that it does not have, and loads none", async () => {
  const [item] = [
    { type: "image", url: `data:image/png;base64,${(await picture(3, 2, "image/png")).toString("base64")}` },
  ];
  await desk.asks("turn/start", { threadId: thread, input: [{ type: "text", text: "@seen" }, item] });
  await mine("@seen").getByText("A picture went along. The device that sent it shows it for a while.").waitFor();
  expect(await phone.page.locator(".me canvas, .me img").count()).toBe(0);
  await audits(phone, "attach-elsewhere");
});
