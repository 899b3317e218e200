// What was captured as a file for Wireshark and sngrep: each message as it was on
// each side, in an IP packet of its own. A library could not be loaded without a
// bundler, and all that is needed is three headers.

const magic = 0xa1b2c3d4; // microseconds
const linkRaw = 101; // LINKTYPE_RAW: packets begin with their IP header
const udp = 17;
const udpHeader = 8;
const largest = 65507; // bytes of a message in a UDP packet of IPv4

/** ends returns the two ends of either side, { browser, pbx }, each [theirs, viaduct's]. */
const ends = (event) => ({
  browser: [event.browser, event.browserLocal],
  pbx: [event.peer?.split(' ').at(-1), event.peerLocal],
});

/** packets returns the messages of an event as they were on a wire: [{from, to, text}]. */
export function packets(event) {
  const { browser, pbx } = ends(event);
  const [came, went] = event.direction === 'up' ? [browser, pbx] : [pbx, browser];
  const [to, from] = event.kind === 'answered' ? came : went;
  return [
    { from: came[0], to: came[1], text: event.before },
    { from, to, text: event.after },
  ].filter((p) => p.text && p.from && p.to);
}

/** pcap returns a capture file of events, as bytes. */
export function pcap(events) {
  const parts = [fileHeader()];
  for (const event of events) {
    const time = micros(event.time);
    for (const p of packets(event)) parts.push(...record(time, p));
  }
  return new Blob(parts, { type: 'application/vnd.tcpdump.pcap' });
}

/** micros returns a time as microseconds since 1970, a BigInt: Date knows milliseconds. */
export function micros(time) {
  const fraction = /\.(\d+)/.exec(time)?.[1] ?? '';
  return BigInt(Math.floor(Date.parse(time) / 1000)) * 1_000_000n + BigInt(fraction.padEnd(6, '0').slice(0, 6));
}

function fileHeader() {
  const h = new DataView(new ArrayBuffer(24));
  h.setUint32(0, magic);
  h.setUint16(4, 2); // version 2.4
  h.setUint16(6, 4);
  h.setUint32(16, 0x40000); // longest packet
  h.setUint32(20, linkRaw);
  return h;
}

function record(time, { from, to, text }) {
  const [source, target] = [parse(from), parse(to)];
  const payload = new TextEncoder().encode(text).subarray(0, largest);
  const datagram = datagramOf(source, target, payload);
  const ip = source.bytes.length === 4 ? ip4(source, target, datagram.length) : ip6(source, target, datagram.length);
  const h = new DataView(new ArrayBuffer(16));
  h.setUint32(0, Number(time / 1_000_000n));
  h.setUint32(4, Number(time % 1_000_000n));
  h.setUint32(8, ip.length + datagram.length);
  h.setUint32(12, ip.length + datagram.length);
  return [h, ip, datagram];
}

/** parse reads host:port, the address as its bytes. */
function parse(text) {
  const [, host, port] = /^\[?([^\]]*)\]?:(\d+)$/.exec(text);
  return { bytes: host.includes(':') ? bytes6(host) : Uint8Array.from(host.split('.'), Number), port: Number(port) };
}

function bytes6(host) {
  const groups = (part) => (part ? part.split(':').map((g) => Number.parseInt(g, 16)) : []);
  const [head, tail] = host.replace(/%.*$/, '').split('::').map(groups);
  const middle = tail ? Array(8 - head.length - tail.length).fill(0) : [];
  return Uint8Array.from([...head, ...middle, ...(tail ?? [])].flatMap((g) => [g >> 8, g & 255]));
}

function datagramOf(source, target, payload) {
  const bytes = new Uint8Array(udpHeader + payload.length);
  const h = new DataView(bytes.buffer);
  h.setUint16(0, source.port);
  h.setUint16(2, target.port);
  h.setUint16(4, bytes.length);
  bytes.set(payload, udpHeader);
  // RFC 768: the checksum is over the addresses too; one of 0 would say that there is none.
  h.setUint16(6, checksum([source.bytes, target.bytes, Uint8Array.of(0, udp, bytes.length >> 8, bytes.length & 255), bytes]) || 0xffff);
  return bytes;
}

function ip4(source, target, size) {
  const bytes = new Uint8Array(20);
  const h = new DataView(bytes.buffer);
  bytes.set([0x45, 0]);
  h.setUint16(2, bytes.length + size);
  h.setUint16(6, 0x4000); // not in fragments
  bytes.set([64, udp], 8);
  bytes.set(source.bytes, 12);
  bytes.set(target.bytes, 16);
  h.setUint16(10, checksum([bytes]));
  return bytes;
}

function ip6(source, target, size) {
  const bytes = new Uint8Array(40);
  const h = new DataView(bytes.buffer);
  bytes[0] = 0x60;
  h.setUint16(4, size);
  bytes.set([udp, 64], 6);
  bytes.set(source.bytes, 8);
  bytes.set(target.bytes, 24);
  return bytes;
}

/** checksum is that of RFC 1071; only the last part may have an odd length. */
function checksum(parts) {
  let sum = 0;
  for (const bytes of parts) bytes.forEach((byte, i) => { sum += i % 2 ? byte : byte << 8; });
  while (sum > 0xffff) sum = (sum & 0xffff) + Math.floor(sum / 0x10000);
  return ~sum & 0xffff;
}
