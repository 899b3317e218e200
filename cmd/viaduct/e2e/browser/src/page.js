// What both pages have in common: how they report to the test, and media that
// needs no peer.

/** Reports an event to the test; fields are plain data. */
export function report(name, fields = {}) {
  window.reportEvent({ name, ...fields });
}

/** A session description that the peer may believe: nobody sends to it. */
export function fixedSDP(direction = 'sendrecv') {
  return [
    'v=0',
    'o=- 1 1 IN IP4 127.0.0.1',
    's=-',
    'c=IN IP4 127.0.0.1',
    't=0 0',
    'm=audio 9 UDP/TLS/RTP/SAVPF 0',
    'a=rtpmap:0 PCMU/8000',
    `a=${direction}`,
    '',
  ].join('\r\n');
}

/** Whether the test asked for fixed session descriptions instead of media. */
export const fixedMedia = new URLSearchParams(location.search).has('fixed');

/** The frequency in Hz of every microphone's sound, if the test wants one. */
export const tone = Number(new URLSearchParams(location.search).get('tone'));

/** Hands out names for calls: c1, c2, … */
export class Calls {
  #calls = new Map();

  add(call) {
    const id = `c${this.#calls.size + 1}`;
    this.#calls.set(id, call);
    return id;
  }

  get(id) {
    const call = this.#calls.get(id);
    if (!call) throw new Error(`no call ${id}`);
    return call;
  }
}
