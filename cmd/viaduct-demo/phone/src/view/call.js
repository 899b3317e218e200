import { $, element, say } from './dom.js';
import { Meter } from '../sound.js';

const keys = [
  ['1', ''], ['2', 'ABC'], ['3', 'DEF'],
  ['4', 'GHI'], ['5', 'JKL'], ['6', 'MNO'],
  ['7', 'PQRS'], ['8', 'TUV'], ['9', 'WXYZ'],
  ['*', ''], ['0', ''], ['#', ''],
];

const spoken = { '*': 'star', '#': 'hash' };

/** The call: who, how it stands, and what can be done with it. */
export class CallView {
  #mine = new Meter($('meter-me'));
  #theirs = new Meter($('meter-peer'));
  #metered = {};
  #clock = null;

  constructor({ answer, reject, hangUp, mute, hold, dial }) {
    $('answer').onclick = answer;
    $('reject').onclick = reject;
    $('hang-up').onclick = hangUp;
    $('mute').onclick = mute;
    $('hold').onclick = hold;
    $('keys').replaceChildren(...keys.map(([digit, letters]) => element('button',
      { type: 'button', value: digit, ariaLabel: spoken[digit] ?? null, onclick: () => dial(digit) },
      element('span', { textContent: digit }), element('small', { textContent: letters }))));
    document.addEventListener('keydown', (e) => {
      const typing = e.target.closest('input, select, summary, sip-ladder');
      if (typing || e.ctrlKey || e.metaKey || e.altKey || $('keys').hidden || $('call').hidden) return;
      if (/^[0-9*#]$/.test(e.key)) {
        e.preventDefault();
        dial(e.key);
      }
    });
  }

  /** Shows call; null when there is none. */
  show(call) {
    $('call').hidden = !call;
    if (!call) return this.#stop();
    const talking = call.state === 'talking';
    say($('peer'), call.peer.name ?? call.peer.number);
    say($('number'), call.peer.name ? call.peer.number : '');
    say($('state'), standing(call));
    $('incoming-controls').hidden = call.state !== 'incoming';
    $('call-controls').hidden = call.state === 'incoming';
    $('answer').disabled = call.answering;
    for (const [id, on] of [['mute', call.muted], ['hold', call.held]]) {
      $(id).disabled = !talking || call.leaving;
      $(id).setAttribute('aria-pressed', String(on));
    }
    $('hang-up').disabled = call.leaving;
    say($('hang-up').querySelector('span'), talking ? 'Hang up' : 'Cancel');
    $('keys').hidden = !talking || call.leaving;
    say($('digits'), digits(call));
    $('meters').hidden = !talking;
    $('meters').classList.toggle('idle', call.held || call.heldByPeer);
    say($('meter-peer-label'), call.peer.name ?? 'Other side');
    if (talking) this.#meter(call);
    this.#tick(call);
  }

  #meter({ local, remote }) {
    if (local !== this.#metered.local) this.#mine.start(local);
    if (remote !== this.#metered.remote && remote.getAudioTracks().length) {
      this.#theirs.start(remote);
      this.#metered.remote = remote;
    }
    this.#metered.local = local;
  }

  #tick({ since }) {
    $('clock').hidden = !since;
    clearInterval(this.#clock);
    if (!since) return;
    const show = () => say($('clock'), duration(Math.floor((Date.now() - since) / 1000)));
    show();
    this.#clock = setInterval(show, 1000);
  }

  #stop() {
    clearInterval(this.#clock);
    this.#mine.stop();
    this.#theirs.stop();
    this.#metered = {};
  }
}

function standing(call) {
  if (call.leaving) return 'Hanging up as soon as the connection is back…';
  switch (call.state) {
    case 'preparing': return 'Waiting for the microphone…';
    case 'calling': return 'Calling…';
    case 'ringing': return 'Ringing…';
    case 'incoming': return call.answering ? 'Waiting for the microphone…' : 'is calling you';
    default:
      if (call.held && call.heldByPeer) return 'Both sides on hold';
      if (call.held) return 'On hold';
      if (call.heldByPeer) return 'The other side has put you on hold';
      return call.muted ? 'Talking, muted' : 'Talking';
  }
}

function digits({ sent, received }) {
  const parts = [];
  if (sent) parts.push(`Sent ${sent.slice(-16)}`);
  if (received) parts.push(`Received ${received.slice(-16)}`);
  return parts.join(' · ');
}

function duration(seconds) {
  const two = (n) => String(n).padStart(2, '0');
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes}:${two(seconds % 60)}`;
  return `${Math.floor(minutes / 60)}:${two(minutes % 60)}:${two(seconds % 60)}`;
}
