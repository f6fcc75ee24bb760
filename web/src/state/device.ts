/** What this device calls itself to a host, before anybody gives it a name. */

/** By the browser's own description of itself: it is for a person to read, nothing depends on it. */
export function describeDevice(userAgent: string): { readonly name: string; readonly platform: string } {
  const first = (known: readonly (readonly [RegExp, string])[], otherwise: string): string =>
    known.find(([pattern]) => pattern.test(userAgent))?.[1] ?? otherwise;
  const device = first(
    [
      [/iPhone/, "iPhone"],
      [/iPad/, "iPad"],
      [/Android.*Mobile/, "Android phone"],
      [/Android/, "Android tablet"],
      [/Macintosh/, "Mac"],
      [/Windows/, "Windows PC"],
      [/CrOS/, "Chromebook"],
      [/Linux/, "Linux PC"],
    ],
    "Browser",
  );
  const browser = first(
    [
      [/Edg/, "Edge"],
      [/SamsungBrowser/, "Samsung"],
      [/Firefox|FxiOS/, "Firefox"],
      [/Chrom|CriOS/, "Chrome"],
      [/Safari/, "Safari"],
    ],
    "browser",
  );
  return { name: device, platform: `${device}, ${browser}` };
}
