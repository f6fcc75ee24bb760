/** The session of `session.json`, record by record, from both ends: as in `proto/tests/shared/session_vectors.rs`. */
import { expect, test } from "vitest";
import vectors from "../../../proto/vectors/session.json";
import { API_CHANNEL, DEVICE_LIMITS, HOST_LIMITS } from "../../src/session/limits";
import { ACK_DELAY, Session } from "../../src/session/session";
import { decodeFrames } from "../../src/wire/frame";
import { ChannelCloseReason } from "../../src/wire/reason";
import { hex } from "../support";
import { sessionId } from "./pair";

const NOW = 5_000;
const LATER = NOW + ACK_DELAY;

test("a session that is cut and resumed says what the vectors say", () => {
  const device = Session.device(DEVICE_LIMITS, NOW);
  const host = Session.host(sessionId(0x5e), HOST_LIMITS, NOW);
  const records: unknown[] = [];
  const carry = (from: Session, to: Session, lost = false): void => {
    const record = from.pollTransmit(LATER);
    if (record === null) {
      throw new Error(`after ${records.length} records: nothing to send`);
    }
    records.push({ from: from.side, lost, frames: decodeFrames(record).map(({ type }) => type), hex: hex(record) });
    if (!lost) {
      to.handleRecord(record, LATER);
    }
    for (let event = to.pollEvent(); event !== null; event = to.pollEvent()) {
      if (event.type === "message") {
        to.handled(event.channel, event.seq, LATER);
      }
    }
  };
  host.linkUp(NOW);
  device.linkUp(NOW);
  carry(device, host);
  carry(host, device);
  const channel = device.openChannel("local");
  device.send(channel, new Uint8Array(40_000).fill(0x78));
  carry(device, host);
  carry(device, host);
  carry(device, host, true);
  device.linkDown();
  host.linkDown();
  host.linkUp(NOW);
  device.linkUp(NOW);
  carry(device, host);
  carry(host, device);
  carry(device, host);
  host.send(channel, new TextEncoder().encode('{"id":1,"result":{}}'));
  host.send(API_CHANNEL, new TextEncoder().encode("{}"));
  carry(host, device);
  device.closeChannel(channel, ChannelCloseReason.done, "");
  carry(device, host);
  carry(host, device);
  expect(records).toEqual(vectors.exchange);
});
